"""Work for executors, in a module that other processes can import."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.work import Batch


@dataclass(frozen=True)
class Squarer:
    """Squares numbers, and notes in a folder which process did which of them."""

    notes: Path
    fingerprint: str = "squarer"
    seconds: float = 0.0

    def square(self, number: int) -> int:
        time.sleep(self.seconds)
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


def killed(part: Squarer, numbers: Sequence[int]) -> Iterator[int]:
    """Ends the process that works on it, as too little memory does."""
    os.kill(os.getpid(), signal.SIGKILL)
    yield 0


def batches(numbers: Sequence[int], size: int, taken: list[int] | None = None) -> Iterator[Batch]:
    """Batches of numbers; `taken` notes which of them somebody asked for."""
    for start in range(0, len(numbers), size):
        part = numbers[start : start + size]
        if taken is not None:
            taken.extend(part)
        yield Batch("squares", [f"{number:064x}" for number in part], part)
