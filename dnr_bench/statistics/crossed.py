"""Means of what raters say of neurons: both are samples, so both count for the interval. Pure.

Ratings of one rater are alike (some people are kinder), and so are ratings of one neuron (some neurons are
easier). An interval that takes ratings as independent is too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Float, Int
from scipy.special import expit, logit

from dnr_bench.statistics.intervals import CONFIDENCE, Estimate


@dataclass(frozen=True)
class CrossedMean(Estimate):
    """A mean with its interval over raters and neurons.

    error: the standard error. p: of the two-sided test that the mean is 0. raters, neurons: how many there
    are of each. All but the mean and the counts are NaN with a single rater or neuron.
    """

    error: float
    p: float
    raters: int
    neurons: int


def crossed_mean(
    values: Float[np.ndarray, " ratings"],
    raters: Sequence[str],
    neurons: Sequence[str],
    ends: tuple[float, float],
) -> CrossedMean:
    """The mean with an interval that is clustered by rater and by neuron.

    The variance is that between raters plus that between neurons minus that within pairs of both, which the
    first two hold twice (Cameron, Gelbach and Miller 2011, equation 2.9), each with its factor for small
    samples. It is at least as large as that of either. The quantile is Student's t with Satterthwaite's
    degrees of freedom, and the interval that of the logit of the share of the scale. Where all values are the
    same end of the scale, nothing is seen of the spread: the interval is Wilson's, of the share of the scale,
    over whichever are fewer.

    Args:
        values: one per rating; NaN ones are left out.
        raters, neurons: who gave each rating, and of which neuron.
        ends: the least and the largest value that there is; the interval lies between them.
    """
    known = ~np.isnan(values)
    kept, n = values[known], int(known.sum())
    of_raters, n_raters = _numbered(np.asarray(raters)[known])
    of_neurons, n_neurons = _numbered(np.asarray(neurons)[known])
    mean = float(kept.mean()) if n else float("nan")
    if n_raters < 2 or n_neurons < 2:
        nothing = float("nan")
        return CrossedMean(mean, nothing, nothing, n, nothing, nothing, n_raters, n_neurons)
    both, n_both = _numbered(of_raters * n_neurons + of_neurons)
    residuals = kept - mean
    between_raters = _variance(residuals, of_raters, n_raters)
    between_neurons = _variance(residuals, of_neurons, n_neurons)
    variance = between_raters + between_neurons - _variance(residuals, both, n_both)
    variance = max(variance, between_raters, between_neurons)
    if variance == 0:
        low, high = _of_one_value(mean, min(n_raters, n_neurons), ends)
        return CrossedMean(mean, low, high, n, 0.0, float(mean == 0), n_raters, n_neurons)
    spread = between_raters**2 / (n_raters - 1) + between_neurons**2 / (n_neurons - 1)
    degrees = max(min(variance**2 / spread, max(n_raters, n_neurons) - 1.0), min(n_raters, n_neurons) - 1.0)
    error = float(np.sqrt(variance))
    reach = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, degrees)) * error
    p = 2 * float(scipy.stats.t.sf(abs(mean) / error, degrees))
    low, high = _on_scale(mean, reach, ends)
    return CrossedMean(mean, low, high, n, error, p, n_raters, n_neurons)


def crossed_weights(
    raters: Sequence[str], neurons: Sequence[str], resamples: int, seed: int
) -> Int[np.ndarray, "resamples ratings"]:
    """How often each rating is drawn when raters and neurons are drawn with replacement, each on their own.

    The pigeonhole bootstrap (Owen 2007): for statistics that have no formula for their variance.
    """
    of_raters, n_raters = _numbered(np.asarray(raters))
    of_neurons, n_neurons = _numbered(np.asarray(neurons))
    rng = np.random.default_rng(seed)
    drawn_raters = rng.multinomial(n_raters, np.full(n_raters, 1 / n_raters), size=resamples)
    drawn_neurons = rng.multinomial(n_neurons, np.full(n_neurons, 1 / n_neurons), size=resamples)
    weights: np.ndarray = drawn_raters[:, of_raters] * drawn_neurons[:, of_neurons]
    return weights


def _on_scale(mean: float, reach: float, ends: tuple[float, float]) -> tuple[float, float]:
    """An interval on the logit of the share of the scale: near an end it is longer on the other side."""
    width = ends[1] - ends[0]
    share = (mean - ends[0]) / width
    reach_of_logit = reach / width / (share * (1 - share))
    low, high = expit(logit(share) + np.asarray([-reach_of_logit, reach_of_logit]))
    return ends[0] + width * float(low), ends[0] + width * float(high)


def _of_one_value(mean: float, n: int, ends: tuple[float, float]) -> tuple[float, float]:
    if mean not in ends:
        return mean, mean
    share = scipy.stats.binomtest(n if mean == ends[1] else 0, n).proportion_ci(CONFIDENCE, method="wilson")
    width = ends[1] - ends[0]
    return ends[0] + width * float(share.low), ends[0] + width * float(share.high)


def _numbered(names: np.ndarray) -> tuple[Int[np.ndarray, " ratings"], int]:
    unique, places = np.unique(names, return_inverse=True)
    return places, len(unique)


def _variance(residuals: Float[np.ndarray, " ratings"], clusters: np.ndarray, n: int) -> float:
    sums = np.bincount(clusters, residuals, minlength=n)
    return float(n / (n - 1) * np.sum(sums**2) / len(residuals) ** 2) if n > 1 else 0.0
