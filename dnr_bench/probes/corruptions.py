"""Corruptions of probing images at five severities, after ImageNet-C (Hendrycks and Dietterich 2019).

Noise, JPEG, contrast and pixelation use its figures; brightness is torchvision's factor, and an occlusion
is a gray square over a share of the image.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from dnr_bench.data.images import Image
from dnr_bench.infra.errors import UsageError

_Change = Callable[[Tensor, float], Tensor]


class NoCorruption:
    """Leaves images as they are."""

    name = None

    def apply(self, image: Image, seed: int) -> Image:
        """The image."""
        return image


class Corrupted:
    """Images changed by one `kind` of corruption at a severity of 1 (weak) to 5 (strong)."""

    def __init__(self, kind: str, severity: int) -> None:
        if kind not in _KINDS:
            raise UsageError(f"kind={kind!r} is unknown; known are {', '.join(_KINDS)}")
        if not 1 <= severity <= 5:
            raise UsageError(f"severity={severity} must lie in 1..5")
        self.name = f"{kind}{severity}"
        self.change, amounts = _KINDS[kind]
        self.amount = amounts[severity - 1]

    def apply(self, image: Image, seed: int) -> Image:
        """The corrupted image; what is random about it (noise, place) depends on the seed only."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
            changed = self.change(pixels, self.amount)
        result: Image = changed.permute(1, 2, 0).contiguous().numpy()
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


_KINDS: dict[str, tuple[_Change, tuple[float, ...]]] = {
    "noise": (_noise, (0.08, 0.12, 0.18, 0.26, 0.38)),
    "jpeg": (_jpeg, (25, 18, 15, 10, 7)),
    "brightness": (_brightness, (1.3, 1.6, 1.9, 2.2, 2.5)),
    "contrast": (_contrast, (0.4, 0.3, 0.2, 0.1, 0.05)),
    "pixelate": (_pixelate, (0.6, 0.5, 0.4, 0.3, 0.25)),
    "occlusion": (_occlusion, (0.05, 0.1, 0.2, 0.3, 0.4)),
}
