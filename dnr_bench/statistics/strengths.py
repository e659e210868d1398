"""How strong is each method against the others? Bradley and Terry's model of paired comparisons. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import choix
import numpy as np
from jaxtyping import Float

from dnr_bench.statistics.crossed import crossed_weights
from dnr_bench.statistics.intervals import CONFIDENCE, Estimate

_RESAMPLES = 500
#: So many comparisons of each pair are taken as undecided before: a method that never lost stays finite.
_PRIOR = 0.5


def strengths(
    wins: Float[np.ndarray, "responses methods methods"],
    raters: Sequence[str],
    neurons: Sequence[str],
    seed: int = 0,
) -> list[Estimate]:
    """The log strength of each method, 0 on average, with an interval over raters and neurons.

    The chance that i is rated above j is 1 / (1 + exp(s_j - s_i)) (Bradley and Terry 1952).

    Args:
        wins: of each response, 1 where method i was rated above j, and half for both where they were equal.
        raters, neurons: of each response.
        seed: of the resamples.
    """
    weights = crossed_weights(raters, neurons, _RESAMPLES, seed)
    sums = np.tensordot(weights.astype(float), wins, axes=1)
    drawn = np.asarray([_fitted(of_one) for of_one in sums])
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    taking_part = (wins + wins.transpose(0, 2, 1)).sum(axis=2) > 0
    found = _fitted(wins.sum(axis=0))
    return [
        Estimate(float(found[place]), float(low[place]), float(high[place]), int(taking_part[:, place].sum()))
        for place in range(wins.shape[1])
    ]


def _fitted(wins: Float[np.ndarray, "methods methods"]) -> Float[np.ndarray, " methods"]:
    undecided = _PRIOR * (1 - np.eye(len(wins)))
    found: np.ndarray = choix.ilsr_pairwise_dense(wins + undecided)
    centered: np.ndarray = found - found.mean()
    return centered
