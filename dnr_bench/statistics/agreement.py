"""Do raters agree? Krippendorff's alpha for ordered ratings. Pure."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from dnr_bench.statistics.intervals import CONFIDENCE, Estimate

_RESAMPLES = 1_000


def ordinal_alpha(ratings: Float[np.ndarray, "raters items"], seed: int = 0) -> Estimate:
    """Krippendorff's alpha of ordered values, with an interval over resampled items.

    1: all raters say the same; 0: no more agreement than by chance; below: they contradict each other
    (Krippendorff 2019, "Content Analysis", chapter 12).

    Args:
        ratings: NaN where a rater did not rate an item. Items that only one rater rated do not count.
        seed: of the resamples.

    Returns:
        alpha; n: how many items count. NaN where there are none, or all ratings are the same value.
    """
    counts = _counts(ratings)
    counts = counts[counts.sum(axis=1) >= 2]
    if len(counts) == 0:
        return Estimate(np.nan, np.nan, np.nan, 0)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(counts), size=(_RESAMPLES, len(counts)))
    found = np.asarray([_alpha(counts[rows]) for rows in drawn])
    known = found[~np.isnan(found)]
    ends = (np.nan, np.nan)
    if len(known) > _RESAMPLES / 2:
        low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        ends = float(low), float(high)
    return Estimate(_alpha(counts), *ends, len(counts))


def _counts(ratings: Float[np.ndarray, "raters items"]) -> Float[np.ndarray, "items values"]:
    """How often each item was given each value, values in order."""
    values = np.unique(ratings[~np.isnan(ratings)])
    counts = [(ratings == value).sum(axis=0).astype(float) for value in values]
    return np.stack(counts, axis=1) if counts else np.zeros((ratings.shape[1], 0))


def _alpha(counts: Float[np.ndarray, "items values"]) -> float:
    sizes = counts.sum(axis=1)
    pairs = (counts[:, :, None] * counts[:, None, :] - _diagonals(counts)) / (sizes - 1)[:, None, None]
    observed = pairs.sum(axis=0)
    totals = observed.sum(axis=0)
    distances = _ordinal_distances(totals)
    n = totals.sum()
    expected = float(np.sum(np.outer(totals, totals) * distances)) / float(n - 1)
    return 1 - float(np.sum(observed * distances)) / expected if expected > 0 else float("nan")


def _diagonals(counts: Float[np.ndarray, "items values"]) -> Float[np.ndarray, "items values values"]:
    found: np.ndarray = counts[:, :, None] * np.eye(counts.shape[1])
    return found


def _ordinal_distances(totals: Float[np.ndarray, " values"]) -> Float[np.ndarray, "values values"]:
    """The square of how many ratings lie between two values, counting half of those that are one of them."""
    middles = np.cumsum(totals) - totals / 2
    found: np.ndarray = (middles[:, None] - middles[None, :]) ** 2
    return found
