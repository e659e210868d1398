"""The iterative loop of DnR (3.2.2): captions of a neuron's best generated images become new concepts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from dnr_bench.data.evidence import Candidate
from dnr_bench.data.explanation import RefinementRecord
from dnr_bench.data.images import Image, View
from dnr_bench.data.neuron import Neuron
from dnr_bench.infra.ranges import check_range
from dnr_bench.methods.describe_and_dissect.candidates import Pool, best_text, joined, priors_of, texts_of
from dnr_bench.methods.describe_and_dissect.concepts import ConceptProposer
from dnr_bench.protocols import Scorer
from dnr_bench.scorers.ranking import largest, row_means, spread
from dnr_bench.session import Session, blocks
from dnr_bench.stages.concept_images import Drawn
from dnr_bench.stages.lazy import Lazy, Recent

NO_NEW_CONCEPT = "no new concept"
NO_PROGRESS = "progress below the threshold"
LAST_ITERATION = "last iteration"


@runtime_checkable
class Refinement(Protocol):
    """A loop that adds concepts to those that captions gave."""

    @property
    def captions_drawings(self) -> bool:
        """Whether the captioner is asked about drawn images."""

    def refine(
        self,
        pool: dict[Neuron, list[Candidate]],
        scores: dict[Neuron, Float[np.ndarray, " _"]],
        concepts: ConceptProposer,
        scorer: Scorer,
        session: Session,
        rated: Callable[[Pool], dict[Neuron, list[Candidate]]],
    ) -> dict[Neuron, RefinementRecord]:
        """Let each neuron's pool and scores grow in place; the records of the neurons that were refined.

        `rated` gives candidates what the scorer needs to know of them.
        """


@dataclass(frozen=True)
class IterativeRefinement:
    """Captions of the best drawings become concepts: at most `max_iterations` times (0: never, which is DnD).

    A neuron is done when its progress stays below `threshold` for more than `patience` iterations in a row.
    `top_m`: how many of the best concepts progress looks at. `as_printed`: progress is what DnR 3.2.2 says,
    the mean of the best scores less that of the iteration before, each in the ranking of its time, and
    `threshold` is in units of the scorer.
    """

    max_iterations: int
    threshold: float
    patience: int
    top_m: int
    as_printed: bool

    def __post_init__(self) -> None:
        check_range(0, 1000, max_iterations=self.max_iterations, patience=self.patience)
        check_range(0, 1_000_000, threshold=self.threshold)
        check_range(1, 1000, top_m=self.top_m)

    @property
    def captions_drawings(self) -> bool:
        """Whether the captioner is asked about drawn images."""
        return self.max_iterations > 0

    def after(
        self,
        record: RefinementRecord,
        scores: Float[np.ndarray, " concepts"],
        earlier: Float[np.ndarray, " old"],
    ) -> RefinementRecord:
        """The record after one more iteration: its joint scores, and those of the old concepts before it."""
        is_new = np.arange(len(scores)) >= len(earlier)
        if not is_new.any():
            return replace(record, stopped=NO_NEW_CONCEPT)
        made = (
            _top_mean(scores, self.top_m) - _top_mean(earlier, self.top_m)
            if self.as_printed
            else progress(scores, is_new, self.top_m)
        )
        curve = (*record.progress, made)
        stopped = None
        if (
            all(value < self.threshold for value in curve[-self.patience - 1 :])
            and len(curve) > self.patience
        ):
            stopped = NO_PROGRESS
        elif len(curve) == self.max_iterations:
            stopped = LAST_ITERATION
        return replace(record, progress=curve, stopped=stopped)

    def refine(
        self,
        pool: dict[Neuron, list[Candidate]],
        scores: dict[Neuron, Float[np.ndarray, " _"]],
        concepts: ConceptProposer,
        scorer: Scorer,
        session: Session,
        rated: Callable[[Pool], dict[Neuron, list[Candidate]]],
    ) -> dict[Neuron, RefinementRecord]:
        """Add to each neuron's pool what captions of its best generated images say, and score it all anew.

        All neurons that go on share the batches of an iteration. `pool` and `scores` grow in place; the
        records of the neurons that were refined are returned. `rated` gives candidates what the scorer needs
        to know of them.
        """
        records = {
            neuron: RefinementRecord(answers=(best_text(pool[neuron], scores[neuron]),))
            for neuron in pool
            if self.max_iterations and not np.isnan(scores[neuron]).all()
        }
        for iteration in range(1, self.max_iterations + 1):
            active = [neuron for neuron, record in records.items() if record.stopped is None]
            found: dict[Neuron, list[str]] = {}
            for block in blocks(active):
                views = _best_drawings({neuron: pool[neuron] for neuron in block}, session)
                found |= concepts.propose(views, concepts.captions(views, session), session)
            earlier = {neuron: scores[neuron] for neuron in active}
            for neuron, texts in found.items():
                pool[neuron] = joined(pool[neuron], [Candidate(t, "refined", iteration) for t in texts])
            grown = rated({neuron: pool[neuron] for neuron in active})
            pool |= grown
            scores |= session.scores(texts_of(grown), scorer, priors=priors_of(grown))
            for neuron in active:
                record = self.after(records[neuron], scores[neuron], earlier[neuron])
                answers = (*record.answers, best_text(pool[neuron], scores[neuron]))
                records[neuron] = replace(record, answers=answers)
        return records


def progress(
    scores: Float[np.ndarray, " concepts"], is_new: Bool[np.ndarray, " concepts"], top_m: int
) -> float:
    """How much the new concepts raise the mean of the `top_m` best scores, in spreads of all scores.

    Both means are of one joint scoring, since ranks grow with the number of concepts, and at most of as many
    concepts as there are old ones with a score. 0 where all scores are equal, or no old concept has one.
    """
    old = scores[~is_new]
    scale, m = spread(scores), min(top_m, int((~np.isnan(old)).sum()))
    return (_top_mean(scores, m) - _top_mean(old, m)) / scale if scale and m else 0.0


def highest_images(activations: Sequence[Float[np.ndarray, " _"]], n: int) -> list[tuple[int, int]]:
    """(concept, image) of the `n` most activating images, highest first, the earlier one first in ties."""
    places = [(concept, image) for concept, values in enumerate(activations) for image in range(len(values))]
    if not places:
        return []
    order = np.argsort(-np.concatenate(list(activations)), kind="stable")[:n]
    return [places[index] for index in order]


def _best_drawings(pool: Mapping[Neuron, Sequence[Candidate]], session: Session) -> dict[Neuron, list[View]]:
    """The generated images, over all its concepts, that activate each neuron most."""
    texts = [candidate.text for of_neuron in pool.values() for candidate in of_neuron]
    drawn = {rendering.concept: rendering for rendering in session.draw(texts)}
    best: dict[Neuron, list[tuple[str, int]]] = {}
    for neuron, candidates in pool.items():
        of_neuron = [drawn[candidate.text] for candidate in candidates]
        activations = [drawing.activations[neuron.layer][:, neuron.unit] for drawing in of_neuron]
        highest = highest_images(activations, session.exemplar_settings.n)
        best[neuron] = [(of_neuron[concept].concept, image) for concept, image in highest]
    chosen = dict.fromkeys(concept for of_neuron in best.values() for concept, _ in of_neuron)
    shown, places = _Shown([session.drawn(c) for c in chosen]), {c: place for place, c in enumerate(chosen)}
    return {
        neuron: [
            View(
                shown.drawn[places[concept]].names[image],
                _Drawing(shown, places[concept], image),
                None,
                float(drawn[concept].activations[neuron.layer][image, neuron.unit]),
            )
            for concept, image in of_neuron
        ]
        for neuron, of_neuron in best.items()
    }


@dataclass(frozen=True)
class _Drawing:
    """Gives one image of a concept."""

    shown: _Shown
    place: int
    number: int

    def __call__(self) -> Image:
        return self.shown.image(self.place, self.number)

    def __reduce__(self) -> tuple[type[_Pixels], tuple[Image]]:
        """Other processes get the pixels: they may have neither the store nor the generator."""
        return _Pixels, (self(),)


@dataclass(frozen=True)
class _Pixels:
    """Gives an image that is in memory."""

    image: Image

    def __call__(self) -> Image:
        return self.image


class _Shown:
    """Images of some concepts, read when somebody asks; one thread at a time, as they may be drawn again."""

    def __init__(self, drawn: Sequence[Drawn]) -> None:
        self.drawn, self._lock = drawn, Lock()
        self._recent = Recent(Lazy(len(drawn), lambda place: drawn[place].images.read(drawn[place])))

    def image(self, place: int, number: int) -> Image:
        """One image of a concept."""
        with self._lock:
            found: Image = self._recent[place][number]
            return found


def _top_mean(scores: Float[np.ndarray, " concepts"], m: int) -> float:
    return float(row_means(largest(scores[None], m))[0])
