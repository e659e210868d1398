"""Work for executors, in a module that other processes can import."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dnr_bench.infra.errors import UsageError


@dataclass(frozen=True)
class Squarer:
    """Squares numbers, and notes in a folder which process did which of them."""

    notes: Path
    fingerprint: str = "squarer"

    def square(self, number: int) -> int:
        (self.notes / f"{number} {os.getpid()} {time.time_ns()}").touch()
        return number**2

    @property
    def noted(self) -> list[int]:
        return sorted(int(path.name.split()[0]) for path in self.notes.iterdir())

    @property
    def processes(self) -> set[int]:
        return {int(path.name.split()[1]) for path in self.notes.iterdir()}


def squared(part: Squarer, numbers: Sequence[int]) -> Iterator[int]:
    for number in numbers:
        yield part.square(number)


def refused(part: Squarer, numbers: Sequence[int]) -> Iterator[int]:
    raise UsageError(f"{numbers[0]} is no number")
    yield


def shaded(shade: float, part: Squarer, images: Sequence[np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    return ({"rows": image * np.float32(shade)} for image in images)
