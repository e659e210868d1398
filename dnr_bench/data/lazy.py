"""Items that are made on demand, so that memory does not grow with the probing set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar, overload

T = TypeVar("T")


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
