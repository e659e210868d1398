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
    pairs = _pairs(counts)
    n = len(counts)
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=_RESAMPLES)
    found = _alpha(np.tensordot(drawn.astype(float), pairs, axes=1))
    known = found[~np.isnan(found)]
    ends = (np.nan, np.nan)
    if len(known) > _RESAMPLES / 2:
        low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        ends = float(low), float(high)
    return Estimate(float(_alpha(pairs.sum(axis=0)[None])[0]), *ends, n)


def _counts(ratings: Float[np.ndarray, "raters items"]) -> Float[np.ndarray, "items values"]:
    """How often each item was given each value, values in order."""
    values = np.unique(ratings[~np.isnan(ratings)])
    counts = [(ratings == value).sum(axis=0).astype(float) for value in values]
    return np.stack(counts, axis=1) if counts else np.zeros((ratings.shape[1], 0))


def _pairs(counts: Float[np.ndarray, "items values"]) -> Float[np.ndarray, "items values values"]:
    """How often each two values stand together in an item, in all ordered pairs of ratings."""
    own = counts[:, :, None] * np.eye(counts.shape[1])
    found: np.ndarray = (counts[:, :, None] * counts[:, None, :] - own) / (counts.sum(axis=1) - 1)[
        :, None, None
    ]
    return found


def _alpha(observed: Float[np.ndarray, "samples values values"]) -> Float[np.ndarray, " samples"]:
    """1 minus observed over expected disagreement, of each matrix of coincidences."""
    totals = observed.sum(axis=1)
    n = totals.sum(axis=1)
    middles = np.cumsum(totals, axis=1) - totals / 2
    # the square of how many ratings lie between two values, with half of those that are one of them
    distances = (middles[:, :, None] - middles[:, None, :]) ** 2
    disagreement = np.sum(observed * distances, axis=(1, 2))
    expected = np.sum(totals[:, :, None] * totals[:, None, :] * distances, axis=(1, 2)) / (n - 1)
    found: np.ndarray = 1 - np.divide(disagreement, expected, out=np.full(len(n), np.nan), where=expected > 0)
    return found
