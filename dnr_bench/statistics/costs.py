"""What a run of another size would take: a fixed time and one per item, fitted to finished runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls


@dataclass(frozen=True)
class Line:
    """Seconds of a stage: `fixed` (models are loaded) and `per_item`."""

    fixed: float
    per_item: float

    def seconds(self, items: float, workers: int = 1) -> float:
        """Of so many items, shared by workers; each of these loads the model at the same time."""
        return self.fixed + self.per_item * items / workers if items else 0.0


def fitted(items: Sequence[float], seconds: Sequence[float]) -> Line:
    """The line through runs of different sizes, neither part below 0; of one run alone without a fixed part.

    Relative errors are made small, so that short runs count as much as long ones.
    """
    known = [(n, s) for n, s in zip(items, seconds, strict=True) if n > 0 and s > 0]
    if len({n for n, _ in known}) < 2:
        return Line(0.0, max((s / n for n, s in known), default=0.0))
    rows = np.asarray([[1 / s, n / s] for n, s in known])
    (fixed, per_item), _ = nnls(rows, np.ones(len(known)))
    return Line(float(fixed), float(per_item))


@dataclass(frozen=True)
class Growth:
    """How many distinct things a number of neurons has: a * n**b, as words grow with texts (Heaps' law).

    b is 1 where no neuron shares anything with others, and 0 where all have the same.
    """

    a: float
    b: float

    def distinct(self, neurons: float) -> float:
        """Of so many neurons."""
        return float(self.a * neurons**self.b)


def grown(groups: Sequence[Sequence[object]]) -> Growth:
    """The growth of distinct things over neurons, of which each group is one's."""
    seen: set[object] = set()
    counts = [len(seen := seen | set(group)) for group in groups]
    points = sorted({max(round(len(counts) * share), 1) for share in np.linspace(0.2, 1.0, 9)})
    if len(points) < 2 or not counts or not counts[-1]:
        return Growth(counts[-1] / len(counts) if counts else 0.0, 1.0)
    ns, distinct = np.asarray(points, float), np.asarray([counts[n - 1] for n in points], float)
    b, _ = np.polyfit(np.log(ns), np.log(np.maximum(distinct, 1)), 1)
    b = float(np.clip(b, 0, 1))
    return Growth(float(distinct[-1] / ns[-1] ** b), b)
