"""Shards: several processes share a run's work, each by its number."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """Shard `number` of `n`; the first one has number 1."""

    number: int
    n: int

    @classmethod
    def parsed(cls, text: str) -> Shard:
        """The shard that "2/4" names.

        Raises:
            ValueError: it names none.
        """
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise ValueError(f"{text!r} is no shard: 2/4 is the second one of four")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.n}"

    def of(self, items: Sequence[T]) -> list[T]:
        """The items of this shard: every n-th."""
        return list(items[self.number - 1 :: self.n])

    def own_first(self, items: Sequence[T]) -> list[T]:
        """All items in an order that begins at another place in each shard, so that shards meet late."""
        start = len(items) * (self.number - 1) // self.n
        return [*items[start:], *items[:start]]
