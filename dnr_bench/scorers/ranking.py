"""Helpers that several scorers share: mid-ranks, the largest values, and the order of tied candidates."""

from __future__ import annotations

import numpy as np
import scipy
from jaxtyping import Float

from dnr_bench.infra.ranges import check_range


def mid_ranks(
    activations: Float[np.ndarray, "candidates images"],
) -> Float[np.ndarray, "candidates images"]:
    """Ranks among all generated images of a neuron, 1 for the highest; rows ascending, NaN last."""
    return np.sort(
        scipy.stats.rankdata(-activations, axis=None, nan_policy="omit").reshape(activations.shape), axis=1
    )


def largest(values: Float[np.ndarray, "candidates images"], k: int) -> Float[np.ndarray, "candidates k"]:
    """The k largest values of each row in descending order; fewer where there are fewer, NaN last."""
    return -np.sort(-values, axis=1)[:, :k]


def row_means(values: Float[np.ndarray, "candidates images"]) -> Float[np.ndarray, " candidates"]:
    """The mean of each row over the values that are there; NaN for a row without any."""
    n = np.sum(~np.isnan(values), axis=1)
    return np.where(n > 0, np.nansum(values, axis=1) / np.maximum(n, 1), np.nan)


def spread(scores: Float[np.ndarray, " candidates"]) -> float:
    """The standard deviation of the scores that are there; 0 where they differ by broken ties at most.

    Ties are broken by the smallest steps of a float, which must not count as much as a difference does.
    """
    scored = scores[~np.isnan(scores)]
    if not len(scored) or np.ptp(scored) <= 1e-9 * np.abs(scored).max() + np.finfo(float).tiny:
        return 0.0
    return float(np.std(scored))


def positive_count(name: str, value: int) -> int:
    """The value, if it is at least 1."""
    check_range(1, 1_000_000, **{name: value})
    return value


def share(name: str, value: float) -> float:
    """The value, if it lies in 0..1."""
    check_range(0, 1, **{name: value})
    return value
