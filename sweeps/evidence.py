"""The search space of scoring: evidence of every neuron, and the quality of each candidate as its label.

Made once; after that a trial is a pass of a scoring function over arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
from jaxtyping import Float

from dnr_bench.app.run import RunConfig, known_truths
from dnr_bench.data.evidence import Evidence, Need
from dnr_bench.data.explanation import Description, Explanation, ScoredCandidate
from dnr_bench.data.neuron import Neuron
from dnr_bench.data.scorecard import Scorecard
from dnr_bench.infra.errors import UsageError
from dnr_bench.methods.describe_and_dissect.candidates import priors_of, texts_of
from dnr_bench.methods.describe_and_dissect.method import DescribeAndDissect
from dnr_bench.protocols import Scorer
from dnr_bench.session import Evaluator


@dataclass(frozen=True)
class Case:
    """A neuron under one seed: its candidates as they were proposed, the evidence, and each one's quality."""

    seed: int
    neuron: Neuron
    candidates: tuple[str, ...]
    evidence: Evidence
    quality: Float[np.ndarray, " candidates"]

    def cut(self, n_candidates: int, images_per_concept: int) -> Case:
        """The case as it would be with fewer candidates and fewer images of each."""
        evidence = self.evidence
        rows = slice(n_candidates)
        probe, prior, shows = evidence.probe_correlation, evidence.prior, evidence.shows
        return replace(
            self,
            candidates=self.candidates[rows],
            quality=self.quality[rows],
            evidence=replace(
                evidence,
                activations=evidence.activations[rows, :images_per_concept],
                image_image=evidence.image_image[rows, :images_per_concept],
                image_text=evidence.image_text[rows],
                probe_correlation=None if probe is None else probe[rows],
                prior=None if prior is None else prior[rows],
                shows=None if shows is None else shows[rows, :images_per_concept],
            ),
        )

    def answer(self, scorer: Scorer) -> int | None:
        """The place of the candidate that a scoring function chooses; None where it can score none."""
        scores = scorer.score(self.evidence)
        return None if np.isnan(scores).all() else int(np.nanargmax(scores))


@dataclass(frozen=True)
class Outcome:
    """The answers of a scoring function for some cases: their quality and their words."""

    quality: Float[np.ndarray, " cases"]
    labels: tuple[str, ...]


def outcome(cases: Sequence[Case], scorer: Scorer) -> Outcome:
    """The answer of each case; one that has none counts as quality 0 and has no label."""
    answers = [case.answer(scorer) for case in cases]
    return Outcome(
        np.asarray([0.0 if a is None else case.quality[a] for case, a in zip(cases, answers, strict=True)]),
        tuple("" if a is None else case.candidates[a] for case, a in zip(cases, answers, strict=True)),
    )


def cases_of(config: RunConfig, metric: str) -> list[Case]:
    """The cases of one run's settings; those of neurons that the metric says nothing of are left out."""
    session, method = config.session(), config.method
    if not isinstance(method, DescribeAndDissect):
        raise UsageError("study=scoring scores candidates: it needs method=describe")
    pool = {
        n: found for n, found in method.candidates(config.neurons, session, with_priors=True).items() if found
    }
    candidates = texts_of(pool)
    evidence = session.evidence(candidates, needs=frozenset(get_args(Need)), priors=priors_of(pool))
    evaluator = _evaluator(config, metric)
    truth = {neuron: text for neuron, text in known_truths(config).items() if text is not None}
    quality = {neuron: np.full(len(texts), np.nan) for neuron, texts in candidates.items()}
    for place in range(max(map(len, candidates.values()), default=0)):
        explanations = [_explained(n, texts[place]) for n, texts in candidates.items() if place < len(texts)]
        found = evaluator.evaluate(Description(explanations, truth), session)
        if not found and place:  # of the neurons that have so many candidates it knows none
            continue
        card = _card(metric, found)
        names = {str(e.neuron): e.neuron for e in explanations}
        for item, value in zip(card.items, card.values, strict=True):
            quality[names[item]][place] = value
    return [
        Case(config.seed, neuron, tuple(texts), evidence[neuron], quality[neuron])
        for neuron, texts in candidates.items()
        if not np.isnan(quality[neuron]).any()
    ]


def _evaluator(config: RunConfig, metric: str) -> Evaluator:
    return config.evaluators[metric.partition(".")[0]]


def _card(metric: str, found: Sequence[object]) -> Scorecard:
    cards = {card.name: card for card in found if isinstance(card, Scorecard)}
    usable = [name for name, card in cards.items() if card.item_kind == "neuron" and card.higher_is_better]
    check_metric(metric, usable)
    return cards[metric]


def check_metric(metric: str, usable: Sequence[str]) -> None:
    """Raises `UsageError` for a metric that no study can choose by."""
    if metric not in usable:
        raise UsageError(
            f"study.metric={metric!r} must be a metric with a value for each neuron of which more is better;"
            f" here: {', '.join(usable)}"
        )


def _explained(neuron: Neuron, label: str) -> Explanation:
    return Explanation(neuron, (ScoredCandidate(label, "method", 0.0),), (label,))
