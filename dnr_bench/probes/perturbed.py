"""Probing sets seen through blur and corruption (CLEAR 2.5): every part sees the same pictures.

Every change has a name of its own in the images' ids, so that no stage confuses two levels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Bool

from dnr_bench.data.images import Image, ProbeSet
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.ranges import check_range
from dnr_bench.protocols import Corruption, Probe
from dnr_bench.stages.lazy import Lazy

BlurRegion = Literal["all", "foreground", "background"]


@dataclass(frozen=True)
class Perturbation:
    """Changes to every probing image: first the corruption, then the blur.

    `blur` is the standard deviation of a Gaussian in pixels of the original image; 0 leaves it untouched.
    `blur_radius`: where its kernel ends; None: at 3 standard deviations.
    """

    blur: float
    blur_radius: int | None
    blur_region: BlurRegion
    corruption: Corruption

    def __post_init__(self) -> None:
        if not 0 <= self.blur <= 100:
            raise UsageError(f"blur={self.blur} must lie in 0..100 (pixels of the original image)")
        check_range(1, 1000, blur_radius=self.blur_radius)

    @property
    def radius(self) -> int:
        """Of the blur's kernel, in pixels."""
        return math.ceil(3 * self.blur) if self.blur_radius is None else self.blur_radius


@dataclass(frozen=True)
class PerturbedProbe:
    """A data set whose images are blurred or corrupted before anybody sees them."""

    probe: Probe
    perturbation: Perturbation

    def load(self, seed: int) -> ProbeSet:
        """The images as they are to be seen."""
        return perturbed(self.probe.load(seed), self.perturbation)


def perturbed(probe: ProbeSet, perturbation: Perturbation) -> ProbeSet:
    """The set with every image changed; the set itself where nothing changes."""
    return _blurred(_corrupted(probe, perturbation.corruption), perturbation)


def _corrupted(probe: ProbeSet, corruption: Corruption) -> ProbeSet:
    name = corruption.name
    if name is None:
        return probe

    def load(index: int) -> Image:
        seed = int.from_bytes(sha256(f"{probe.ids[index]}|{name}".encode()).digest()[:8], "big")
        return corruption.apply(probe.images[index], seed)

    return _changed(probe, name, load)


def _blurred(probe: ProbeSet, perturbation: Perturbation) -> ProbeSet:
    sigma, region, radius = perturbation.blur, perturbation.blur_region, perturbation.radius
    if sigma == 0:
        return probe

    def load(index: int) -> Image:
        image = probe.images[index]
        if region == "all":
            return blur(image, sigma, radius)
        mask = probe.masks[index] if probe.masks is not None else foreground(image)
        inside = mask if region == "foreground" else ~mask
        return np.where(inside[..., None], blur(image, sigma, radius), image)

    where = "" if region == "all" else f"-{region}"
    cut = "" if region == "all" or probe.masks is not None else "-grabcut"
    ends = "" if perturbation.blur_radius is None else f"-radius{radius}"
    return _changed(probe, f"blur{sigma:g}{ends}{where}{cut}", load)


def _changed(probe: ProbeSet, change: str, load: Callable[[int], Image]) -> ProbeSet:
    return replace(
        probe,
        name=f"{probe.name}-{change}",
        ids=[f"{name}|{change}" for name in probe.ids],
        images=Lazy(len(probe.images), load),
        unchanged_ids=probe.original_ids,
    )


def blur(image: Image, sigma: float, radius: int) -> Image:
    """Convolution with a Gaussian kernel of this radius, edges reflected."""
    size = 2 * radius + 1
    softened: Image = cv2.GaussianBlur(image, (size, size), sigma, borderType=cv2.BORDER_REFLECT)
    return softened


def foreground(image: Image) -> Bool[np.ndarray, "height width"]:
    """The foreground by OpenCV's GrabCut, starting from all but a margin of a tenth.

    Where it finds nothing, or the image is too small for it, the whole inner rectangle.
    """
    height, width = image.shape[:2]
    top, left = max(height // 10, 1), max(width // 10, 1)
    inner = np.zeros((height, width), bool)
    inner[top : height - top, left : width - left] = True
    if min(height, width) < 8:
        return inner
    labels = np.where(inner, cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
    cv2.setRNGSeed(0)  # GrabCut's clusters start at random
    try:
        cv2.grabCut(image, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), 3, cv2.GC_INIT_WITH_MASK)
    except cv2.error:  # an image of one color has no clusters
        return inner
    found: np.ndarray = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
    return found if found.any() else inner
