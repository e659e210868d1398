"""The correlation of a label with a neuron over all images, from a few that people look at. Pure.

Of most labels nearly all images show nothing, so images drawn evenly are nearly all spent on a no. Here
images are drawn where they matter for the correlation, and each counts as much as the images that it stands
for (importance sampling; proposed for labels of neurons by Oikarinen, Yan, Kulkarni and Weng 2025).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Float, Int

from dnr_bench.statistics.intervals import CONFIDENCE, Estimate

#: The share of draws that do not trust the model: no image weighs more than five.
UNIFORM = 0.2
_LEAST = 1e-3


@dataclass(frozen=True)
class SampledCorrelation(Estimate):
    """Pearson's r of presence and activation over all images; error: its standard error, NaN if unknown."""

    error: float


def standardized(activations: Float[np.ndarray, " images"]) -> Float[np.ndarray, " images"]:
    """Mean 0 and variance 1; all 0 where the activations are all equal."""
    centered = np.asarray(activations, float) - float(np.mean(activations))
    spread = float(np.sqrt(np.mean(centered**2)))
    found: np.ndarray = centered / spread if spread > 0 else centered
    return found


def proposal(
    activations: Float[np.ndarray, " images"],
    presence: Float[np.ndarray, " images"],
    uniform: float = UNIFORM,
) -> Float[np.ndarray, " images"]:
    """The chance of each image to be drawn; they sum to 1.

    Proportional to the root of the probability that the image shows the concept, times by how much it would
    then move the correlation, mixed with a uniform share. With an exact model that minimizes the variance.

    Args:
        activations: the neuron's, on all images.
        presence: how probably each image shows the concept, as a model sees it; within [0, 1].
        uniform: the share of uniform draws; 1: nothing else.
    """
    n = len(presence)
    even = np.full(n, 1 / n)
    if uniform >= 1:
        return even
    z = standardized(activations)
    likely = np.clip(presence, _LEAST, 1 - _LEAST)
    first, second = _gradient(float(likely.mean()), float(np.mean(z * likely)))
    wanted = np.sqrt(likely) * np.abs(first + second * z)
    if not wanted.sum() > 0:
        return even
    mixed: np.ndarray = uniform * even + (1 - uniform) * wanted / wanted.sum()
    return mixed


def draw(chances: Float[np.ndarray, " images"], n: int, seed: int) -> Int[np.ndarray, " n"]:
    """The places of n images, drawn with replacement."""
    return np.random.default_rng(seed).choice(len(chances), size=n, p=chances)


def sampled_correlation(
    activations: Float[np.ndarray, " draws"],
    presence: Float[np.ndarray, " draws"],
    chances: Float[np.ndarray, " draws"],
    n_images: int,
) -> SampledCorrelation:
    """Pearson's r over all images, from the drawn ones, each weighed by 1 / (n_images * its chance).

    Mean activation and variance are known exactly; what is estimated is how often the concept is there, and
    how activation goes with it. The error is by the delta method, the interval by Student's t.

    Args:
        activations: standardized over *all* images (`standardized`), at the draws.
        presence: whether each drawn image shows the concept: 0 or 1, or how probably.
        chances: of each drawn image (`proposal`).
        n_images: how many images there are.

    Returns:
        NaN where no drawn image shows the concept, or all do.
    """
    weights, n = 1 / (n_images * chances), len(presence)
    if n < 2:
        return SampledCorrelation(np.nan, np.nan, np.nan, n, np.nan)
    share, joint = float(np.mean(weights * presence)), float(np.mean(weights * presence * activations))
    if not 0 < share < 1:
        return SampledCorrelation(np.nan, np.nan, np.nan, n, np.nan)
    r = joint / np.sqrt(share * (1 - share))
    first, second = _gradient(share, joint)
    moves = weights * presence * (first + second * activations)
    error = float(np.std(moves, ddof=1) / np.sqrt(n))
    reach = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * error
    return SampledCorrelation(float(r), float(r - reach), float(r + reach), n, error)


def planned_error(
    activations: Float[np.ndarray, " images"],
    presence: Float[np.ndarray, " images"],
    chances: Float[np.ndarray, " images"],
) -> float:
    """The standard error of the correlation from a single draw, if the model is right.

    From n draws it is that over the root of n.
    """
    z = standardized(activations)
    likely = np.clip(presence, _LEAST, 1 - _LEAST)
    share, joint = float(likely.mean()), float(np.mean(z * likely))
    first, second = _gradient(share, joint)
    moves = (first + second * z) / (len(z) * chances)
    mean = float(np.sum(chances * likely * moves))
    return float(np.sqrt(max(float(np.sum(chances * likely * moves**2)) - mean**2, 0.0)))


def _gradient(share: float, joint: float) -> tuple[float, float]:
    """By how much r = joint / sqrt(share (1 - share)) moves with the share, and with the joint mean."""
    spread = np.sqrt(share * (1 - share))
    return float(-joint * (1 - 2 * share) / (2 * spread**3)), float(1 / spread)
