"""Items that are made on demand, so that memory does not grow with the probing set."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TypeVar, overload

import numpy as np
from jaxtyping import UInt8

T = TypeVar("T")
#: One image, or several of one size.
Pixels = UInt8[np.ndarray, "..."]
#: Bytes of images that `Recent` keeps.
_KEPT = 256 * 2**20


@dataclass(frozen=True)
class Lazy(Sequence[T]):
    """`length` images or masks; `load(index)` decodes, renders or changes one. A part of it is lazy, too."""

    length: int
    load: Callable[[int], T]

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Lazy[T]: ...
    def __getitem__(self, index: int | slice) -> T | Lazy[T]:
        if isinstance(index, slice):
            places = range(*index.indices(self.length))
            return Lazy(len(places), lambda i: self.load(places[i]))
        if not 0 <= index < self.length:
            raise IndexError(index)
        return self.load(index)


def picked(items: Sequence[T], places: Sequence[int]) -> Lazy[T]:
    """The items at these places, in their order."""
    return Lazy(len(places), lambda index: items[places[index]])


class Recent(Sequence[Pixels]):
    """Images of which those that were decoded last are kept, as many as fit into a fixed memory.

    For work that looks at the same images twice: small ones are decoded once, large ones take no more memory.
    Several threads may ask.
    """

    def __init__(self, images: Sequence[Pixels], most_bytes: int = _KEPT) -> None:
        self.images, self.most_bytes = images, most_bytes
        self.sizes: dict[int, tuple[int, int]] = {}
        self._kept: OrderedDict[int, Pixels] = OrderedDict()
        self._bytes, self._lock = 0, Lock()

    def __reduce__(self) -> tuple[type[Recent], tuple[object, ...]]:
        """Another process keeps its own."""
        return Recent, (self.images, self.most_bytes)

    def __len__(self) -> int:
        return len(self.images)

    @overload
    def __getitem__(self, index: int) -> Pixels: ...
    @overload
    def __getitem__(self, index: slice) -> Lazy[Pixels]: ...
    def __getitem__(self, index: int | slice) -> Pixels | Lazy[Pixels]:
        if isinstance(index, slice):
            places = range(*index.indices(len(self)))
            return Lazy(len(places), lambda i: self[places[i]])
        with self._lock:
            if index in self._kept:
                self._kept.move_to_end(index)
                return self._kept[index]
        image = self.images[index]
        with self._lock:
            self.sizes[index] = (image.shape[0], image.shape[1])
            if index not in self._kept:
                self._kept[index] = image
                self._bytes += image.nbytes
            while self._bytes > self.most_bytes and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return image
