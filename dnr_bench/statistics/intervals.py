"""Means with 95% intervals. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Float

RESAMPLES = 10_000


CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over items with its 95% interval; NaN where there is nothing to estimate from."""

    mean: float
    low: float
    high: float
    n: int


def estimate(
    values: Float[np.ndarray, " items"], clusters: Sequence[str], seed: int = 0, signed: bool = False
) -> Estimate:
    """The mean of the values that are there, with a BCa bootstrap interval over clusters.

    Values of one cluster are drawn together. Where all values are equal, BCa is undefined: a share of 0 or
    1 gets Wilson's interval over the clusters, anything else an interval of width 0. A difference (`signed`)
    that is always 0 may still be there in Wilson's share of the others, on either side. Where the clusters
    do not differ although values do, as with a single cluster, nothing is known of the spread: NaN; so it is
    with a single value that is no share.
    """
    scored = ~np.isnan(values)
    kept, names = values[scored], np.asarray(clusters)[scored]
    if len(kept) == 0:
        return Estimate(np.nan, np.nan, np.nan, 0)
    mean = float(kept.mean())
    _, membership = np.unique(names, return_inverse=True)
    if np.ptp(kept) == 0:
        return Estimate(mean, *_constant_interval(mean, int(membership.max()) + 1, signed), len(kept))
    sums, sizes = np.bincount(membership, kept), np.bincount(membership).astype(float)
    if len(sums) < 2 or np.ptp(sums / sizes) == 0:
        return Estimate(mean, np.nan, np.nan, len(kept))
    interval = scipy.stats.bootstrap(
        (sums, sizes),
        lambda s, n, axis: s.sum(axis=axis) / n.sum(axis=axis),
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="BCa",
        paired=True,
        vectorized=True,
        batch=1_000,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Estimate(mean, float(interval.low), float(interval.high), len(kept))


def _constant_interval(mean: float, n: int, signed: bool) -> tuple[float, float]:
    if mean not in (0.0, 1.0) or (signed and mean):
        return (mean, mean) if n > 1 else (np.nan, np.nan)
    interval = scipy.stats.binomtest(round(mean * n), n).proportion_ci(CONFIDENCE, method="wilson")
    return float(-interval.high if signed else interval.low), float(interval.high)
