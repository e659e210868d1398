"""From ranked candidates to labels: one of them, or several (DnD A.7)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from dnr_bench.data.explanation import Explanation, ScoredCandidate
from dnr_bench.data.neuron import Neuron
from dnr_bench.infra.ranges import check_range
from dnr_bench.session import Session

DEAD = "dead: the same activation on every probing image"


@dataclass(frozen=True)
class LabelSettings:
    """How many labels a neuron gets.

    n_labels: at most so many. max_label_cosine: a further label is left out whose CLIP text cosine with a
    better one is higher than this.
    """

    n_labels: int
    max_label_cosine: float

    def __post_init__(self) -> None:
        check_range(1, 1000, n_labels=self.n_labels)
        check_range(0, 1, max_label_cosine=self.max_label_cosine)


def labeled(explanation: Explanation, settings: LabelSettings, session: Session) -> Explanation:
    """The explanation with its best candidates for labels, unless a reason says why it gets none."""
    texts = [candidate.text for candidate in explanation.candidates if candidate.reason is None]
    if explanation.unscored is not None:
        return explanation
    vectors = session.embed_texts(texts) if settings.n_labels > 1 else None
    return replace(explanation, labels=first_distinct(texts, vectors, settings))


def label_each(
    neurons: Sequence[Neuron],
    ranked: Callable[[Neuron], tuple[Sequence[ScoredCandidate], str | None]],
    settings: LabelSettings,
    session: Session,
) -> list[Explanation]:
    """One explanation per neuron, in order, for methods with concepts of their own.

    ranked: a neuron's concepts, best first, and why none of them is its label, if so.
    """
    exemplars = session.exemplars(neurons)

    def explained(neuron: Neuron) -> Explanation:
        if neuron not in exemplars:
            return Explanation(neuron, (), unscored=DEAD)
        candidates, unscored = ranked(neuron)
        found = Explanation(neuron, tuple(candidates), unscored=unscored, exemplars=exemplars[neuron])
        return labeled(found, settings, session)

    return [explained(neuron) for neuron in neurons]


def first_distinct(
    texts: Sequence[str], vectors: Float[np.ndarray, "texts dim"] | None, settings: LabelSettings
) -> tuple[str, ...]:
    """The first `n_labels` texts in order, without those too close to a kept one; vectors have length 1."""
    if vectors is None:
        return tuple(texts[: settings.n_labels])
    cosines = vectors @ vectors.T
    kept: list[int] = []
    for index in range(len(texts)):
        if all(cosines[index, other] <= settings.max_label_cosine for other in kept):
            kept.append(index)
    return tuple(texts[index] for index in kept[: settings.n_labels])
