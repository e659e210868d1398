"""A neuron's pool of candidate concepts: gathered from several sources, ranked by score. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from dnr_bench.data.evidence import Candidate
from dnr_bench.data.explanation import ScoredCandidate
from dnr_bench.data.neuron import Neuron

#: The candidates of each neuron.
Pool = Mapping[Neuron, Sequence[Candidate]]


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
    candidates: Sequence[Candidate],
    scores: Float[np.ndarray, " candidates"],
    shown: Callable[[str], int | None] = lambda text: None,
) -> list[ScoredCandidate]:
    """Candidates best first, the earlier one first in a tie, unscored ones last.

    shown: how many images of a concept show it, where that is known.
    """
    order = np.argsort(-scores, kind="stable")
    return [
        ScoredCandidate(
            candidates[i].text,
            candidates[i].origin,
            float(scores[i]),
            "no image to score it on" if np.isnan(scores[i]) else None,
            candidates[i].iteration,
            candidates[i].prior,
            shown(candidates[i].text),
        )
        for i in order
    ]


def best_text(candidates: Sequence[Candidate], scores: Float[np.ndarray, " candidates"]) -> str:
    """The concept with the highest score, the earlier one in a tie; one of them must have a score."""
    return candidates[int(np.nanargmax(scores))].text


def priors_of(pool: Pool) -> dict[Neuron, list[float]]:
    """How well captions support each neuron's candidates."""
    return {neuron: [candidate.prior for candidate in candidates] for neuron, candidates in pool.items()}


def texts_of(pool: Pool) -> dict[Neuron, list[str]]:
    """The words of each neuron's candidates."""
    return {neuron: [candidate.text for candidate in candidates] for neuron, candidates in pool.items()}
