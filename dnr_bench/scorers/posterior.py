"""Captions first, images as far as they show the concept: a score for sets that do not hold every concept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from dnr_bench.data.evidence import Evidence, Need
from dnr_bench.infra.ranges import check_range
from dnr_bench.scorers.ranking import share


class Posterior:
    """(1 - r) * prior + r * response, both between 0 and 1.

    prior: the support of the candidate by captions, relative to the best one. response: the mean
    activation on the images that show the candidate, 0 at the neuron's typical activation, 1 at that of its
    exemplars. r grows from 0 with the number n of images that show the candidate: weight * n / (n + halfway).
    So a candidate without images keeps its prior, and one whose images leave the neuron cold falls behind.
    Where nothing is known from captions of any candidate, the response alone counts, on all its images.
    """

    needs: frozenset[Need] = frozenset({"prior", "shows"})

    def __init__(self, weight: float, halfway: float) -> None:
        check_range(0, 1_000_000, halfway=halfway)
        self.weight, self.halfway = share("weight", weight), halfway

    def score(self, evidence: Evidence) -> Float[np.ndarray, " candidates"]:
        """One score per candidate."""
        assert evidence.prior is not None, "the pipeline fills it for scorers that need it"
        if np.isnan(evidence.prior).all():
            n, response = _response(replace(evidence, shows=~np.isnan(evidence.activations)))
            return np.where(n > 0, response, np.nan)
        n, response = _response(evidence)
        prior = np.clip(np.where(np.isnan(evidence.prior), 0.0, evidence.prior), 0, None)
        prior = prior / max(float(prior.max()), 1e-9)
        trust = self.weight * n / np.maximum(n + self.halfway, 1e-9)
        scores: np.ndarray = (1 - trust) * prior + trust * response
        return scores


def _response(
    evidence: Evidence,
) -> tuple[Float[np.ndarray, " candidates"], Float[np.ndarray, " candidates"]]:
    """How many images show each candidate, and how far the neuron goes on these; 0 where there are none."""
    assert evidence.shows is not None, "the pipeline fills it for scorers that need it"
    assert evidence.typical_activation is not None, "as above"
    typical = evidence.typical_activation
    height = max(evidence.exemplar_activation - typical, 1e-9)
    reached = np.clip((evidence.activations - typical) / height, 0, 1)
    counts = evidence.shows.sum(axis=1).astype(float)
    total = np.where(evidence.shows, np.nan_to_num(reached), 0.0).sum(axis=1)
    return counts, total / np.maximum(counts, 1)
