"""A neuron's pool of candidate concepts: gathered from several sources, ranked by score. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from dnr_bench.data.evidence import Candidate
from dnr_bench.data.explanation import ScoredCandidate
from dnr_bench.data.neuron import Neuron


def joined(candidates: Sequence[Candidate], more: Sequence[Candidate]) -> list[Candidate]:
    """Both lists, each concept once, as it was first written.

    What the user and captions of exemplars (or another method) both name is tagged so; a concept of the
    user's that captions of images of itself repeat stays the user's.
    """
    first: dict[str, Candidate] = {}
    for candidate in (*candidates, *more):
        name = " ".join(candidate.text.casefold().split())
        known = first.setdefault(name, candidate)
        if known.origin in ("captions", "method") and candidate.origin == "user":
            first[name] = replace(known, origin="both")
    return list(first.values())


def ranked(
    candidates: Sequence[Candidate], scores: Float[np.ndarray, " candidates"]
) -> list[ScoredCandidate]:
    """Candidates best first, the earlier one first in a tie, unscored ones last."""
    order = np.argsort(-scores, kind="stable")
    return [
        ScoredCandidate(
            candidates[i].text,
            candidates[i].origin,
            float(scores[i]),
            "no image to score it on" if np.isnan(scores[i]) else None,
            candidates[i].iteration,
        )
        for i in order
    ]


def texts_of(pool: Mapping[Neuron, Sequence[Candidate]]) -> dict[Neuron, list[str]]:
    """The words of each neuron's candidates."""
    return {neuron: [candidate.text for candidate in candidates] for neuron, candidates in pool.items()}
