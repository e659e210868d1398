"""Images, probing sets, and what captioners see of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

#: One image: height, width, RGB bytes.
Image = UInt8[np.ndarray, "_ _ 3"]


#: True on the foreground of an image.
Mask = Bool[np.ndarray, "_ _"]


#: Gives the CLIP unit vectors of a set's images when they are asked for.
VectorsOf = Callable[[], Float[np.ndarray, "images dim"]]


#: Left, top, right, bottom in pixels of the original image; right and bottom are exclusive.
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Skipped:
    """An image of a data set that could not be read, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class ConceptMasks:
    """Where each image of a set shows which concepts (as in Broden), at a resolution of the masks' own.

    `load(index)`: the numbers of the concepts that an image shows, and the mask of each. `categories` of the
    concepts (object, texture ...); `annotated(index)`: those that an image was annotated for. `version` names
    the content of the masks.
    """

    names: Sequence[str]
    categories: Sequence[str]
    load: Callable[[int], tuple[Int[np.ndarray, " shown"], Bool[np.ndarray, "shown _ _"]]]
    annotated: Callable[[int], frozenset[str]]
    version: str


@dataclass(frozen=True)
class ProbeSet:
    """Images in a fixed order, decoded when they are asked for.

    `ids` name the *content* of the images (equal ids, equal pixels); `captions`, `masks` (of the
    foreground), `classes` (of each image) and `concepts` (where they are) are the data set's own. `skipped`
    are those of its images that could not be read. `unchanged_ids`: of the images before they were blurred or
    corrupted, None where they were not. `names`: of the images, for people; none where they have none.
    """

    name: str
    ids: Sequence[str]
    images: Sequence[Image]
    captions: Sequence[str] | None = None
    masks: Sequence[Mask] | None = None
    classes: Sequence[str] | None = None
    concepts: ConceptMasks | None = None
    skipped: Sequence[Skipped] = ()
    unchanged_ids: Sequence[str] | None = None
    names: Sequence[str] = ()

    def told(self, ids: Collection[str], most: int = 3) -> str:
        """The names (or ids) of the images with these ids, for messages; `most`: so many of them."""
        names = self.names or self.ids
        found = [name for name, own in zip(names, self.ids, strict=True) if own in ids]
        return ", ".join(found[:most]) + (" ..." if len(found) > most else "")

    @property
    def original_ids(self) -> Sequence[str]:
        """The ids of the images as they were before they were blurred or corrupted."""
        return self.ids if self.unchanged_ids is None else self.unchanged_ids

    @property
    def words(self) -> Sequence[str] | None:
        """What the data set itself says of each image: its caption, else the name of its class."""
        return self.captions if self.captions is not None else self.classes

    @cached_property
    def digest(self) -> str:
        """A name for the whole set: SHA-256 over the ids in order."""
        return sha256("\n".join(self.ids).encode()).hexdigest()


@dataclass(frozen=True)
class View:
    """An exemplar as the captioner sees it: its pixels, and its image's own caption if there is one.

    name: names the content of the pixels: equal names, equal pixels. load: decodes them, each time anew, so
    that views of many neurons wait in little memory. activation: the neuron's on it, which captioners do not
    look at; None for images of no neuron.
    """

    name: str
    load: Callable[[], Image]
    caption: str | None
    activation: float | None = None

    @classmethod
    def of(cls, image: Image, caption: str | None = None) -> View:
        """The view of an image that is in memory."""
        content = f"{image.dtype}{image.shape}".encode() + np.ascontiguousarray(image).tobytes()
        return cls(sha256(content).hexdigest(), lambda: image, caption)

    @property
    def pixels(self) -> Image:
        """The pixels, decoded now."""
        return self.load()
