"""Scores from the activations on a candidate's images themselves (DnR 3.2.1)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float

from dnr_bench.data.evidence import NOTHING_MORE, Evidence
from dnr_bench.scorers.ranking import largest, positive_count, row_means, share

Normalize = Literal["none", "exemplar"]


class TopKLog:
    """The mean of log(1 + max(a, 0)) over the `k` largest activations; ties by their mean."""

    needs = NOTHING_MORE

    def __init__(self, k: int, normalize: Normalize) -> None:
        self.k, self.normalize = positive_count("k", k), normalize

    def score(self, evidence: Evidence) -> Float[np.ndarray, " candidates"]:
        """One score per candidate."""
        top = largest(_normalized(evidence, self.normalize), self.k)
        return _ties_broken(row_means(np.log1p(np.maximum(top, 0))), by=row_means(top))


class Semantic:
    """alpha * mean of the `k` largest activations + (1 - alpha) * max(CLIP, 0)^2.

    CLIP is the mean cosine of the concept's text with the neuron's exemplar images, which DnR leaves open.
    """

    needs = NOTHING_MORE

    def __init__(self, alpha: float, k: int, normalize: Normalize) -> None:
        self.alpha, self.k = share("alpha", alpha), positive_count("k", k)
        self.normalize = normalize

    def score(self, evidence: Evidence) -> Float[np.ndarray, " candidates"]:
        """One score per candidate."""
        top = row_means(largest(_normalized(evidence, self.normalize), self.k))
        likeness: np.ndarray = np.maximum(evidence.image_text, 0) ** 2
        return self.alpha * top + (1 - self.alpha) * likeness


def _normalized(evidence: Evidence, normalize: Normalize) -> Float[np.ndarray, "candidates images"]:
    """Activations over the neuron's mean exemplar activation, where that is positive."""
    if normalize == "exemplar" and evidence.exemplar_activation > 0:
        return evidence.activations / evidence.exemplar_activation
    return evidence.activations


def _ties_broken(
    scores: Float[np.ndarray, " candidates"], by: Float[np.ndarray, " candidates"]
) -> Float[np.ndarray, " candidates"]:
    """Equal scores moved apart by the smallest steps that a float has, in the order of `by`."""
    result = scores.copy()
    for score in np.unique(scores[~np.isnan(scores)]):
        tied = np.flatnonzero(scores == score)
        _, order = np.unique(by[tied], return_inverse=True)
        for index, steps in zip(tied, order, strict=True):
            for _ in range(int(steps)):
                result[index] = np.nextafter(result[index], np.inf)
    return result
