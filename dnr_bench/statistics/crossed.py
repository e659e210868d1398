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

    error: the standard error. p: of the two-sided test that the mean is 0, NaN where 0 is no value within the
    scale. raters, neurons: how many there are of each. All but the mean and the counts are NaN with a single
    rater or neuron.
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
    samples. It is at least as large as each of them. The quantile is Student's t with Satterthwaite's degrees
    of freedom, and interval and P are those of the logit of the share of the scale. Where all values are the
    same, nothing is seen of the spread: at an end of the scale the interval is Wilson's, of the share of the
    scale, over whichever are fewer; elsewhere it is unknown.

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
    if np.ptp(kept) == 0:
        low, high = _of_one_value(mean, min(n_raters, n_neurons), ends)
        p = 1.0 if mean == 0 else float("nan")
        return CrossedMean(mean, low, high, n, float("nan"), p, n_raters, n_neurons)
    both, n_both = _numbered(of_raters * n_neurons + of_neurons)
    residuals = kept - mean
    between_raters = _variance(residuals, of_raters, n_raters)
    between_neurons = _variance(residuals, of_neurons, n_neurons)
    within = _variance(residuals, both, n_both)
    variance = max(between_raters + between_neurons - within, between_raters, between_neurons, within)
    spread = between_raters**2 / (n_raters - 1) + between_neurons**2 / (n_neurons - 1)
    least, most = min(n_raters, n_neurons) - 1.0, max(n_raters, n_neurons) - 1.0
    degrees = max(min(variance**2 / spread, most), least) if spread > 0 else least
    error = float(np.sqrt(variance))
    low, high, p = _on_scale(mean, error, degrees, ends)
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


def _on_scale(
    mean: float, error: float, degrees: float, ends: tuple[float, float]
) -> tuple[float, float, float]:
    """The interval on the logit of the share of the scale, and P of a mean of 0 on the same logit.

    Near an end of the scale the interval is longer on the other side.
    """
    width = ends[1] - ends[0]
    share, share_of_nothing = (mean - ends[0]) / width, -ends[0] / width
    error_of_logit = error / width / (share * (1 - share))
    reach = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, degrees)) * error_of_logit
    low, high = expit(logit(share) + np.asarray([-reach, reach]))
    p = float("nan")
    if 0 < share_of_nothing < 1:
        distance = abs(logit(share) - logit(share_of_nothing)) / error_of_logit
        p = 2 * float(scipy.stats.t.sf(distance, degrees))
    return ends[0] + width * float(low), ends[0] + width * float(high), p


def _of_one_value(mean: float, n: int, ends: tuple[float, float]) -> tuple[float, float]:
    if mean not in ends:
        return float("nan"), float("nan")
    share = scipy.stats.binomtest(n if mean == ends[1] else 0, n).proportion_ci(CONFIDENCE, method="wilson")
    width = ends[1] - ends[0]
    return ends[0] + width * float(share.low), ends[0] + width * float(share.high)


def _numbered(names: np.ndarray) -> tuple[Int[np.ndarray, " ratings"], int]:
    unique, places = np.unique(names, return_inverse=True)
    return places, len(unique)


def _variance(residuals: Float[np.ndarray, " ratings"], clusters: np.ndarray, n: int) -> float:
    sums = np.bincount(clusters, residuals, minlength=n)
    return float(n / (n - 1) * np.sum(sums**2) / len(residuals) ** 2) if n > 1 else 0.0
