"""Images that are made when they are asked for, so that memory does not grow with the probing set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import overload

from dnr_bench.types import Image


@dataclass(frozen=True)
class LazyImages(Sequence[Image]):
    """`length` images; `load(index)` decodes, renders or changes one of them."""

    length: int
    load: Callable[[int], Image]

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> list[Image]: ...
    def __getitem__(self, index: int | slice) -> Image | list[Image]:
        if isinstance(index, slice):
            return [self.load(i) for i in range(*index.indices(self.length))]
        if not 0 <= index < self.length:
            raise IndexError(index)
        return self.load(index)
