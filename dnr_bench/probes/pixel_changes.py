"""The corruptions themselves: how each kind changes the pixels of an image."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from threading import Lock

import cv2
import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from dnr_bench.data.images import Image

Change = Callable[[Tensor, float], Tensor]

#: torchvision draws from a stream that all threads share.
_one_at_a_time = Lock()


def changed(image: Image, kind: str, amount: float, seed: int) -> Image:
    """The image, changed; what is random about it (noise, place) depends on the seed only."""
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
    with _one_at_a_time, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        found = CHANGES[kind](pixels, amount)
    result: Image = found.permute(1, 2, 0).contiguous().numpy()
    return result


def _noise(image: Tensor, sigma: float) -> Tensor:
    noisy = F.gaussian_noise(F.to_dtype(image, torch.float32, scale=True), sigma=sigma)
    changed: Tensor = F.to_dtype(noisy, torch.uint8, scale=True)
    return changed


def _jpeg(image: Tensor, quality: float) -> Tensor:
    """By OpenCV, since torchvision gives its JPEG codec up."""
    pixels = cv2.cvtColor(image.permute(1, 2, 0).numpy(), cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    decoded = cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return torch.from_numpy(decoded).permute(2, 0, 1)


def _brightness(image: Tensor, factor: float) -> Tensor:
    changed: Tensor = F.adjust_brightness(image, factor)
    return changed


def _contrast(image: Tensor, factor: float) -> Tensor:
    changed: Tensor = F.adjust_contrast(image, factor)
    return changed


def _pixelate(image: Tensor, scale: float) -> Tensor:
    height, width = image.shape[-2:]
    small = F.resize(image, [max(round(height * scale), 1), max(round(width * scale), 1)], antialias=True)
    changed: Tensor = F.resize(small, [height, width], interpolation=F.InterpolationMode.NEAREST)
    return changed


def _occlusion(image: Tensor, share: float) -> Tensor:
    height, width = image.shape[-2:]
    h, w = (max(round(side * math.sqrt(share)), 1) for side in (height, width))
    top, left = (int(torch.randint(room + 1, ())) for room in (height - h, width - w))
    changed: Tensor = F.erase(image, top, left, h, w, torch.tensor(128, dtype=torch.uint8))
    return changed


CHANGES: Mapping[str, Change] = {
    "noise": _noise,
    "jpeg": _jpeg,
    "brightness": _brightness,
    "contrast": _contrast,
    "pixelate": _pixelate,
    "occlusion": _occlusion,
}
