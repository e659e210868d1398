"""Pictures of one question in one file: a grid of squares, for pages and for platforms."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from dnr_bench.data.images import Image
from dnr_bench.infra.errors import RunError, UsageError

#: Pictures side by side.
COLUMNS = 5
_QUALITY = 85
_PAPER = 128


@dataclass(frozen=True)
class Montage:
    """n pictures in rows of `COLUMNS`, as WebP."""

    webp: bytes
    n: int

    @classmethod
    def of(cls, images: Sequence[Image], size: int) -> Montage:
        """Each image whole, within a gray square of so many pixels."""
        columns = min(len(images), COLUMNS)
        rows = -(-len(images) // columns)
        grid = np.full((rows * size, columns * size, 3), _PAPER, np.uint8)
        for place, image in enumerate(images):
            top, left = size * (place // columns), size * (place % columns)
            grid[top : top + size, left : left + size] = _fitted(image, size)
        done, encoded = cv2.imencode(".webp", grid[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, _QUALITY])
        if not done:
            raise RunError("OpenCV cannot write WebP")
        return cls(encoded.tobytes(), len(images))

    @property
    def columns(self) -> int:
        """Pictures in a row."""
        return min(self.n, COLUMNS)

    @property
    def data(self) -> str:
        """For an address within a page."""
        return base64.b64encode(self.webp).decode()


def cut_strip(webp: bytes, n: int) -> list[Image]:
    """The n pictures of a strip, which stand side by side.

    Raises:
        UsageError: it is no picture.
    """
    found = cv2.imdecode(np.frombuffer(webp, np.uint8), cv2.IMREAD_COLOR)
    if found is None or n < 1 or found.shape[1] < n:
        raise UsageError("a file of pictures holds no picture")
    width = found.shape[1] // n
    return [np.ascontiguousarray(found[:, width * i : width * (i + 1), ::-1]) for i in range(n)]


def _fitted(image: Image, size: int) -> Image:
    scale = size / max(image.shape[:2])
    height, width = (max(round(edge * scale), 1) for edge in image.shape[:2])
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    found: Image = np.full((size, size, 3), _PAPER, np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    found[top : top + height, left : left + width] = cv2.resize(image, (width, height), interpolation=way)
    return found
