"""Gaussian blur of a probing set (CLEAR 2.5), so that target, captioner and CLIP see the same pictures."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2

from dnr_bench.errors import UsageError
from dnr_bench.probes.lazy import LazyImages
from dnr_bench.types import Image, ProbeSet

_VERSION = 1  # part of the image ids: raise it when a level would come out as other pixels


def blurred(probe: ProbeSet, sigma: float) -> ProbeSet:
    """The set with every image blurred; `sigma` in pixels of the original image, 0 changes nothing."""
    check_sigma(sigma)
    if sigma == 0:
        return probe
    return replace(
        probe,
        name=f"{probe.name}-blur{sigma:g}",
        ids=[f"{name}|blur{_VERSION}={float(sigma)!r}" for name in probe.ids],
        images=LazyImages(len(probe.images), lambda index: blur(probe.images[index], sigma)),
    )


def check_sigma(sigma: float) -> None:
    """Raises `UsageError` for a level that no image can be blurred with."""
    if not 0 <= sigma <= 100:
        raise UsageError(f"blur={sigma} must lie in 0..100 (pixels of the original image)")


def blur(image: Image, sigma: float) -> Image:
    """Convolution with a Gaussian kernel of radius 3 sigma, edges reflected."""
    size = 2 * math.ceil(3 * sigma) + 1
    softened: Image = cv2.GaussianBlur(image, (size, size), sigma, borderType=cv2.BORDER_REFLECT)
    return softened
