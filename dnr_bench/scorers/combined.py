"""A weighted sum of other scores, each on the scale of its own spread."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from dnr_bench.data.evidence import Evidence
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.ranges import check_range
from dnr_bench.protocols import Scorer
from dnr_bench.scorers.ranking import spread


class Combined:
    """The weighted sum of the z-scores that several scorers give the candidates of a neuron.

    A scorer without a weight has weight 1. A scorer whose scores are all equal adds nothing. A candidate that
    one of the scorers cannot score has no score.
    """

    def __init__(self, scorers: Mapping[str, Scorer], weights: Mapping[str, float]) -> None:
        if not scorers:
            raise UsageError("scorers is empty: name at least one scorer")
        if unknown := sorted(set(weights) - set(scorers)):
            raise UsageError(
                f"weights={dict(weights)}: there is no scorer {unknown}; scorers are {sorted(scorers)}"
            )
        for name, weight in weights.items():
            check_range(-1000, 1000, **{f"weights.{name}": weight})
        self.scorers, self.weights = dict(scorers), {name: weights.get(name, 1.0) for name in scorers}
        self.needs = frozenset().union(*(scorer.needs for scorer in scorers.values()))

    def score(self, evidence: Evidence) -> Float[np.ndarray, " candidates"]:
        """One score per candidate."""
        total = np.zeros(len(evidence.activations))
        for name, scorer in self.scorers.items():
            total += self.weights[name] * _z_scores(scorer.score(evidence))
        return total


def _z_scores(scores: Float[np.ndarray, " candidates"]) -> Float[np.ndarray, " candidates"]:
    scale = spread(scores)
    if not scale:
        return np.where(np.isnan(scores), np.nan, 0.0)
    standard: np.ndarray = (scores - np.nanmean(scores)) / scale
    return standard
