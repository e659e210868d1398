"""Scores from the ranks of a candidate's images among all generated images of the neuron."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from dnr_bench.data.evidence import NOTHING_MORE, Evidence
from dnr_bench.scorers.ranking import mid_ranks, positive_count, row_means


class MeanRank:
    """Minus the mean rank (DnD A.1.4)."""

    needs = NOTHING_MORE

    def score(self, evidence: Evidence) -> Float[np.ndarray, " candidates"]:
        """One score per candidate."""
        return -row_means(mid_ranks(evidence.activations))


class MedianRank:
    """Minus the median rank (after DnR's code)."""

    needs = NOTHING_MORE

    def score(self, evidence: Evidence) -> Float[np.ndarray, " candidates"]:
        """One score per candidate."""
        ranks = mid_ranks(evidence.activations)
        seen = ~np.isnan(ranks).all(axis=1)
        result = np.full(len(ranks), np.nan)
        result[seen] = -np.nanmedian(ranks[seen], axis=1)
        return result


class SquaredMeanRank:
    """Minus the mean squared rank (after DnR's code)."""

    needs = NOTHING_MORE

    def score(self, evidence: Evidence) -> Float[np.ndarray, " candidates"]:
        """One score per candidate."""
        return -row_means(mid_ranks(evidence.activations) ** 2)


class TopKSquaredRank:
    """Minus the mean squared rank of the `beta` best images (DnD A.1.4)."""

    needs = NOTHING_MORE

    def __init__(self, beta: int) -> None:
        self.beta = positive_count("beta", beta)

    def score(self, evidence: Evidence) -> Float[np.ndarray, " candidates"]:
        """One score per candidate."""
        return -row_means(mid_ranks(evidence.activations)[:, : self.beta] ** 2)
