"""Image files as RGB bytes, whatever they are; what cannot be decoded says why."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image as PILImage
from PIL import UnidentifiedImageError

from dnr_bench.data.images import Image

#: More pixels than these Pillow itself refuses to decode.
MOST_PIXELS = 178_956_970
_JPEG = b"\xff\xd8\xff"
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


#: Red, green, blue.
Color = tuple[int, int, int]


class UnreadableImageError(Exception):
    """Why bytes are no image that can be shown."""


@dataclass(frozen=True)
class Decoded:
    """The pixels of an image, and whether some of it was transparent."""

    pixels: Image
    transparent: bool


def decode(content: bytes, max_pixels: int, background: Color) -> Decoded:
    """The first frame as RGB, without turning it by its EXIF tag, as torchvision's loaders do.

    Palettes, gray, CMYK and 16-bit pixels become 8-bit RGB. What is transparent is laid on `background`, as
    the colors below transparent pixels are arbitrary. Arrays that numpy.save wrote ([height, width, bands] or
    [bands, height, width], bytes) give their first three bands.
    """
    if not content:
        raise UnreadableImageError("the file is empty")
    if content.startswith(b"\x93NUMPY"):
        return Decoded(_from_array(content, max_pixels), False)
    with _opened(content, max_pixels) as picture:
        picture.load()
        return _opaque(picture, background) or Decoded(_rgb(picture), False)


def check(content: bytes, max_pixels: int, background: Color) -> bool:
    """Whether some of an image is transparent; raises for what `decode` raises for.

    A JPEG has no transparency, and reading all of it at an eighth of its size fails where decoding it fails,
    in a seventh of the time.
    """
    if content.startswith(_JPEG):
        with _opened(content, max_pixels) as picture:
            picture.draft(None, (1, 1))
            picture.load()
            return False
    return decode(content, max_pixels, background).transparent


@contextmanager
def _opened(content: bytes, max_pixels: int) -> Iterator[PILImage.Image]:
    """A picture whose size is known and whose pixels are not read yet."""
    try:
        with PILImage.open(BytesIO(content)) as picture:
            _check_size(picture.width * picture.height, max_pixels)
            yield picture
    except UnreadableImageError:
        raise
    except PILImage.DecompressionBombError as error:  # before we could look at the size ourselves
        raise UnreadableImageError(f"it has more pixels than max_pixels={max_pixels}") from error
    except UnidentifiedImageError as error:
        raise UnreadableImageError("it is in no known image format") from error
    except Exception as error:  # Pillow's decoders raise whatever their formats' libraries do
        raise UnreadableImageError(" ".join(str(error).split()) or type(error).__name__) from error


def _opaque(picture: PILImage.Image, background: Color) -> Decoded | None:
    """A picture with transparent areas on a background; None if it has none."""
    if not picture.has_transparency_data or picture.mode.startswith("I"):
        return None
    layer = picture.convert("RGBA")
    if layer.getchannel("A").getextrema() == (255, 255):
        return None
    laid = PILImage.alpha_composite(PILImage.new("RGBA", layer.size, (*background, 255)), layer)
    return Decoded(np.array(laid.convert("RGB")), True)


def _rgb(picture: PILImage.Image) -> Image:
    if picture.mode.startswith("I"):  # 16-bit gray, which Pillow itself would clip
        values = np.asarray(picture).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise UnreadableImageError(f"its {picture.mode} pixels exceed 16 bits")
        gray = ((values + 128) // 257).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)
    if picture.mode == "F":
        raise UnreadableImageError("floating-point pixels have no known range")
    return np.array(picture.convert("RGB"))


def _from_array(content: bytes, max_pixels: int) -> Image:
    try:
        file = BytesIO(content)
        header = _HEADERS[np.lib.format.read_magic(file)]
        shape, _, dtype = header(file)
    except Exception as error:  # headers are parsed as Python, which fails in many ways
        raise UnreadableImageError(f"no array: {' '.join(str(error).split())}") from error
    if dtype != np.uint8 or len(shape) != 3 or min(shape) < 1:
        raise _unfit(dtype, shape)
    _check_size(math.prod(sorted(shape)[1:]), max_pixels)  # before memory is asked for
    try:
        array = np.load(BytesIO(content), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UnreadableImageError(f"no array: {' '.join(str(error).split())}") from error
    if array.shape[0] < 10 <= min(array.shape[1:]):
        array = np.moveaxis(array, 0, -1)
    if array.shape[2] < 3:
        raise _unfit(dtype, shape)
    return np.ascontiguousarray(array[..., :3])


def _unfit(dtype: np.dtype, shape: tuple[int, ...]) -> UnreadableImageError:
    return UnreadableImageError(
        f"an array of {dtype} {list(shape)}; needed are bytes [height, width, 3 or more]"
    )


def _check_size(n_pixels: int, max_pixels: int) -> None:
    if n_pixels > max_pixels:
        raise UnreadableImageError(f"{n_pixels} pixels are more than max_pixels={max_pixels}")
