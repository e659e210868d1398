"""Small copies of images, for people who look at results."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from jaxtyping import UInt8

from dnr_bench.data.images import Image
from dnr_bench.infra.errors import RunError
from dnr_bench.infra.source import code_of
from dnr_bench.infra.store import Store

#: Width and height of the pictures, in pixels.
SIZE = 64
#: A WebP is at most 16,383 pixels wide.
MOST = 255
_QUALITY = 80


@dataclass(frozen=True)
class Strip:
    """Pictures side by side in one WebP, and how many: a page of a thousand neurons stays light."""

    webp: bytes
    n: int

    @classmethod
    def of(cls, images: Sequence[Image]) -> Strip:
        """The first `MOST` images, each brought to `SIZE`."""
        row = np.concatenate([small(image) for image in images[:MOST]], axis=1)
        done, encoded = cv2.imencode(".webp", row[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, _QUALITY])
        if not done:
            raise RunError("OpenCV cannot write WebP")
        return cls(encoded.tobytes(), min(len(images), MOST))

    @property
    def data(self) -> str:
        """For an address within a page."""
        return base64.b64encode(self.webp).decode()


def stored_strip(
    store: Store, names: Sequence[str], images: Callable[[], UInt8[np.ndarray, "images height width 3"]]
) -> Strip:
    """The strip of the images that these names stand for; `images` gives them where it is not stored."""

    def compute(_: list[int]) -> Iterator[dict[str, np.ndarray]]:
        yield {"webp": np.frombuffer(Strip.of(list(images())).webp, np.uint8)}

    (stored,) = store.fill("thumbnails", [{"code": _code(), "images": list(names)}], compute)
    return Strip(stored["webp"].tobytes(), min(len(names), MOST))


@cache
def _code() -> str:
    return code_of(__name__)


def small(image: Image) -> Image:
    """An image at the size of pictures."""
    if image.shape[:2] == (SIZE, SIZE):
        return image
    smaller = image.shape[0] > SIZE or image.shape[1] > SIZE
    resized: Image = cv2.resize(
        image, (SIZE, SIZE), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    )
    return resized
