"""Pictures to measure with: photo-like JPEGs, and a generator that takes no time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from dnr_bench.data.images import Image


def photo(seed: int, height: int, width: int) -> Image:
    """Smooth color with fine grain: compresses as photographs do."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    grain = rng.integers(-12, 13, (height // 4 + 1, width // 4 + 1, 1), dtype=np.int16)
    picture += np.repeat(np.repeat(grain, 4, axis=0), 4, axis=1)[:height, :width]
    return np.clip(picture, 0, 255).astype(np.uint8)


def jpegs(folder: Path, n: int, height: int, width: int) -> Path:
    """A folder of JPEG files."""
    folder.mkdir(parents=True, exist_ok=True)

    def write(number: int) -> None:
        cv2.imwrite(str(folder / f"{number:05}.jpg"), photo(number, height, width))

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, range(n)))
    return folder


class SmoothPictures:
    """Images that follow from the seed at next to no cost: a generator for measurements of memory."""

    fingerprint = "smooth pictures"

    def __init__(self, size: int) -> None:
        self.size = size

    def generate(
        self, prompts: Sequence[str], seeds: Sequence[int], numbers: Sequence[int] | None = None
    ) -> Iterator[Image]:
        """One image for each prompt and seed."""
        for _, seed in zip(prompts, seeds, strict=True):
            yield self._image(seed)

    def _image(self, seed: int) -> Image:
        coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        return cv2.resize(coarse, (self.size, self.size), interpolation=cv2.INTER_LINEAR)
