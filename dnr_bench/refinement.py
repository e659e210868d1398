"""The iterative loop of DnR (3.2.2): when to go on, and what came of it; `pipeline.py` runs the loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from dnr_bench.errors import UsageError
from dnr_bench.scorers.ranking import largest, row_means, spread
from dnr_bench.types import Course

NO_NEW_CONCEPT = "no new concept"
NO_PROGRESS = "progress below the threshold"
LAST_ITERATION = "last iteration"


@dataclass(frozen=True)
class Refinement:
    """How long to refine: at most `max_iterations` times (0: never, which is DnD).

    A neuron is done when its progress stays below `threshold` for more than `patience` iterations in a row.
    `top_m`: how many of the best concepts progress looks at.
    """

    max_iterations: int
    threshold: float
    patience: int
    top_m: int

    def __post_init__(self) -> None:
        for name, least in (("max_iterations", 0), ("threshold", 0), ("patience", 0), ("top_m", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"{name}={getattr(self, name)} must be at least {least}")

    def after(
        self, course: Course, scores: Float[np.ndarray, " concepts"], is_new: Bool[np.ndarray, " concepts"]
    ) -> Course:
        """The course after one more iteration, whose joint scores and new concepts are these."""
        if not is_new.any():
            return replace(course, stopped=NO_NEW_CONCEPT)
        curve = (*course.progress, progress(scores, is_new, self.top_m))
        stopped = None
        if (
            all(value < self.threshold for value in curve[-self.patience - 1 :])
            and len(curve) > self.patience
        ):
            stopped = NO_PROGRESS
        elif len(curve) == self.max_iterations:
            stopped = LAST_ITERATION
        return replace(course, progress=curve, stopped=stopped)


def progress(
    scores: Float[np.ndarray, " concepts"], is_new: Bool[np.ndarray, " concepts"], top_m: int
) -> float:
    """How much the new concepts raise the mean of the `top_m` best scores, in spreads of all scores.

    Both means are of one joint scoring, since ranks grow with the number of concepts, and at most of as many
    concepts as there are old ones with a score. 0 where all scores are equal, or no old concept has one.
    """
    old = scores[~is_new]
    scale, m = spread(scores), min(top_m, int((~np.isnan(old)).sum()))
    return (_top_mean(scores, m) - _top_mean(old, m)) / scale if scale and m else 0.0


def highest_images(activations: Sequence[Float[np.ndarray, " _"]], n: int) -> list[tuple[int, int]]:
    """(concept, image) of the `n` most activating images, highest first, the earlier one first in ties."""
    places = [(concept, image) for concept, values in enumerate(activations) for image in range(len(values))]
    if not places:
        return []
    order = np.argsort(-np.concatenate(list(activations)), kind="stable")[:n]
    return [places[index] for index in order]


def _top_mean(scores: Float[np.ndarray, " concepts"], m: int) -> float:
    return float(row_means(largest(scores[None], m))[0])
