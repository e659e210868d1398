"""A weighted sum of other scores, each on the scale of its own spread."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from dnr_bench.data.evidence import Evidence
from dnr_bench.infra.errors import UsageError
from dnr_bench.protocols import Scorer
from dnr_bench.scorers.ranking import spread


class Combined:
    """The sum over `parts` of weight times z-score among the neuron's candidates.

    A part without a weight counts once; a part whose scores are all equal adds nothing. A candidate that
    one part cannot score has no score.
    """

    def __init__(self, parts: Mapping[str, Scorer], weights: Mapping[str, float]) -> None:
        if not parts:
            raise UsageError("parts is empty: name at least one scorer")
        if unknown := sorted(set(weights) - set(parts)):
            raise UsageError(
                f"weights={dict(weights)}: there is no part {unknown}; parts are {sorted(parts)}"
            )
        for name, weight in weights.items():
            if not isinstance(weight, int | float) or not math.isfinite(weight):
                raise UsageError(f"weights.{name}={weight!r} must be a number")
        self.parts, self.weights = dict(parts), {name: weights.get(name, 1.0) for name in parts}
        self.needs_probe = any(part.needs_probe for part in parts.values())

    def score(self, evidence: Evidence) -> Float[np.ndarray, " candidates"]:
        """One score per candidate."""
        total = np.zeros(len(evidence.activations))
        for name, part in self.parts.items():
            total += self.weights[name] * _z_scores(part.score(evidence))
        return total


def _z_scores(scores: Float[np.ndarray, " candidates"]) -> Float[np.ndarray, " candidates"]:
    scale = spread(scores)
    if not scale:
        return np.where(np.isnan(scores), np.nan, 0.0)
    standard: np.ndarray = (scores - np.nanmean(scores)) / scale
    return standard
