"""Rows of the benchmark: two times measured side by side, and their ratio."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT


@dataclass(frozen=True)
class Row:
    """One line of the table.

    value: what the row is about; a ratio unless `of` says otherwise. goal: the bound, "at least 0.9", or
    nothing. ours, other: what was divided, in the unit `of`.
    """

    name: str
    value: float
    goal: str = ""
    ours: float | None = None
    other: float | None = None
    of: str = ""
    note: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether the goal is met; None where there is none."""
        if not self.goal:
            return None
        word, bound = self.goal.rsplit(" ", 1)
        return self.value >= float(bound) if word == "at least" else self.value <= float(bound)


def interleaved(measured: Sequence[Callable[[], float]], repeats: int = 3) -> list[float]:
    """The median of each of several measurements, taken in turns: what disturbs one disturbs all."""
    values: list[list[float]] = [[] for _ in measured]
    for _ in range(repeats):
        for place, measure in enumerate(measured):
            values[place].append(measure())
    return [statistics.median(of_one) for of_one in values]


def seconds(work: Callable[[], object]) -> float:
    """Wall time of some work."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def child(
    words: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
) -> dict[str, float]:
    """What a part of the benchmark reports that runs in a process of its own; the last line is JSON."""
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TQDM_DISABLE": "1"} | dict(environment or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found
