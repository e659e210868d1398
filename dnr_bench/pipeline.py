"""Describe-and-Dissect from probing set to labels (DnD section 3), readable beside the paper."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from dnr_bench.activations import probe_activations
from dnr_bench.candidates import joined, ranked
from dnr_bench.correlations import probe_correlations
from dnr_bench.errors import UsageError
from dnr_bench.exemplars import ExemplarSettings, find_exemplars, never_fires, views_of
from dnr_bench.labels import LabelSettings, drives, first_distinct
from dnr_bench.parts import (
    Captioner,
    Generator,
    ImageTextEncoder,
    Proposer,
    Scorer,
    Summarizer,
    Target,
)
from dnr_bench.refinement import Refinement, highest_images
from dnr_bench.renderings import DrawingSettings, Studio, embed_images, embed_texts
from dnr_bench.store import Key, Store, pixels_digest
from dnr_bench.types import (
    Activations,
    Candidate,
    Course,
    Evidence,
    Exemplars,
    Explanation,
    Layer,
    Neuron,
    ProbeSet,
    Rendering,
    ScoredCandidate,
    Seen,
    View,
)

DEAD = "dead: the same activation on every probing image"
NO_CANDIDATE = "the summariser proposed no concept"
NO_SCORE = "no candidate could be scored"
NOT_DRIVEN = "its best concept drives it no more than other neurons' concepts do"

#: Added to the run's seed for images that no label was chosen by.
_FRESH = 2**32


@dataclass(frozen=True)
class Parts:
    """The exchangeable parts of a run; a proposer takes the place of captioner and summariser."""

    target: Target
    captioner: Captioner
    summarizer: Summarizer | Proposer
    generator: Generator
    encoder: ImageTextEncoder
    scorer: Scorer


@dataclass(frozen=True)
class Settings:
    """The method's own settings; `n_candidates` is N.

    proposed: further candidates of a neuron, of another method or the user's.
    """

    exemplars: ExemplarSettings
    drawing: DrawingSettings
    refinement: Refinement
    labels: LabelSettings
    proposed: Mapping[Neuron, Sequence[Candidate]]
    n_candidates: int
    seed: int

    def __post_init__(self) -> None:
        if self.n_candidates < 1:
            raise UsageError(f"n_candidates={self.n_candidates} must be at least 1")


class DescribeAndDissect:
    """Describes neurons of one target with one probing set, stage by stage, each stage for all neurons."""

    def __init__(
        self, parts: Parts, settings: Settings, probe: ProbeSet, layers: Sequence[Layer], store: Store
    ) -> None:
        self.parts, self.settings, self.probe, self.store = parts, settings, probe, store
        self.layers = tuple(layers)
        self.studio, self.fresh_studio = (
            Studio(
                store,
                parts.generator,
                parts.target,
                parts.encoder,
                [layer.name for layer in layers],
                settings.drawing,
                seed,
                first,
            )
            for seed, first in (
                (settings.seed, 0),
                (settings.seed + _FRESH, settings.drawing.images_per_concept),
            )
        )

    def explain(self, neurons: Sequence[Neuron]) -> list[Explanation]:
        """One explanation a neuron, in order; dead neurons are unscored with that reason."""
        exemplars = self.exemplars(neurons)
        views = self._views(exemplars)
        pool = self._pool(views)
        scores = self._scores(_texts(pool), exemplars, views, self.studio)
        courses = self._refine(pool, scores, exemplars, views)
        in_order = {neuron: ranked(pool[neuron], scores[neuron]) for neuron in pool}
        explained = self._labelled(in_order, exemplars, courses)
        return [explained.get(neuron) or Explanation(neuron, (), unscored=DEAD) for neuron in neurons]

    def seen(self, neurons: Sequence[Neuron]) -> dict[Neuron, Seen]:
        """What each neuron's exemplars show and are said to show; dead neurons are left out."""
        if not neurons:
            return {}
        exemplars = self.exemplars(neurons)
        views = self._views(exemplars)
        is_silent = isinstance(self.parts.summarizer, Proposer)
        captions = (
            [[""] * len(of_neuron) for of_neuron in views.values()]
            if is_silent
            else self._captions(list(views.values()))
        )
        return {
            neuron: Seen(exemplars[neuron], tuple(views[neuron]), tuple(of_neuron))
            for neuron, of_neuron in zip(views, captions, strict=True)
        }

    def candidates(self, neurons: Sequence[Neuron]) -> dict[Neuron, list[str]]:
        """The unrefined candidates of each neuron as they were proposed; dead neurons are left out."""
        return _texts(self._pool(self._views(self.exemplars(neurons))))

    def _pool(self, views: Mapping[Neuron, Sequence[View]]) -> dict[Neuron, list[Candidate]]:
        """What is said of the exemplars, and then what others propose."""
        proposed = self._proposals(list(views.values()))
        return {
            neuron: joined(
                [Candidate(text, "captions") for text in texts], self.settings.proposed.get(neuron, ())
            )
            for neuron, texts in zip(views, proposed, strict=True)
        }

    def _refine(
        self,
        pool: dict[Neuron, list[Candidate]],
        scores: dict[Neuron, Float[np.ndarray, " _"]],
        exemplars: Mapping[Neuron, Exemplars],
        views: Mapping[Neuron, Sequence[View]],
    ) -> dict[Neuron, Course]:
        """DnR's loop (3.2.2): adds to each neuron's pool what captions of its best generated images say.

        Every list is scored anew as a whole. All neurons that go on share the batches of an iteration.
        """
        refinement = self.settings.refinement
        courses = {
            neuron: Course(answers=(_answer(pool[neuron], scores[neuron]),))
            for neuron in pool
            if refinement.max_iterations and not np.isnan(scores[neuron]).all()
        }
        for iteration in range(1, refinement.max_iterations + 1):
            active = [neuron for neuron, course in courses.items() if course.stopped is None]
            found = self._proposals(self._best_drawings({n: pool[n] for n in active}))
            before = {neuron: len(pool[neuron]) for neuron in active}
            for neuron, texts in zip(active, found, strict=True):
                pool[neuron] = joined(pool[neuron], [Candidate(t, "refined", iteration) for t in texts])
            grown = _texts({neuron: pool[neuron] for neuron in active})
            scores |= self._scores(grown, exemplars, views, self.studio)
            for neuron in active:
                is_new = np.arange(len(pool[neuron])) >= before[neuron]
                course = refinement.after(courses[neuron], scores[neuron], is_new)
                answers = (*course.answers, _answer(pool[neuron], scores[neuron]))
                courses[neuron] = replace(course, answers=answers)
        return courses

    def _best_drawings(self, pool: Mapping[Neuron, Sequence[Candidate]]) -> list[list[View]]:
        """The generated images, over all its concepts, that activate each neuron most."""
        drawn = self.studio.render([candidate.text for of_neuron in pool.values() for candidate in of_neuron])
        views = []
        for neuron, candidates in pool.items():
            of_neuron = [drawn[candidate.text] for candidate in candidates]
            activations = [drawing.activations[neuron.layer][:, neuron.unit] for drawing in of_neuron]
            best = highest_images(activations, self.settings.exemplars.n)
            views.append([View(of_neuron[concept].images[image], None) for concept, image in best])
        return views

    def _labelled(
        self,
        in_order: Mapping[Neuron, Sequence[ScoredCandidate]],
        exemplars: Mapping[Neuron, Exemplars],
        courses: Mapping[Neuron, Course],
    ) -> dict[Neuron, Explanation]:
        """Each neuron with its labels, or the reason why it gets none."""
        settings = self.settings.labels
        answers = {n: c[0].text for n, c in in_order.items() if c and c[0].reason is None}
        weak = self._not_driven(answers, exemplars) if settings.abstain_margin is not None else set()
        explained = {}
        for neuron, candidates in in_order.items():
            if neuron in answers and neuron not in weak:
                unscored = None
            else:
                unscored = NO_CANDIDATE if not candidates else NOT_DRIVEN if neuron in weak else NO_SCORE
            found = self.labelled(neuron, candidates, exemplars[neuron], unscored)
            explained[neuron] = replace(found, course=courses.get(neuron))
        return explained

    def _not_driven(
        self, answers: Mapping[Neuron, str], exemplars: Mapping[Neuron, Exemplars]
    ) -> set[Neuron]:
        """The neurons that their answer drives no more than the answers of other neurons of the layer do."""
        margin = self.settings.labels.abstain_margin or 0.0
        weak: set[Neuron] = set()
        drawn = self.studio.render(list(answers.values()))
        for layer in dict.fromkeys(neuron.layer for neuron in answers):
            texts = list(dict.fromkeys(text for n, text in answers.items() if n.layer == layer))
            means = np.stack([drawn[text].activations[layer].mean(axis=0) for text in texts])
            weak |= {
                neuron
                for neuron, text in answers.items()
                if neuron.layer == layer
                and not drives(
                    means[:, neuron.unit], texts.index(text), exemplars[neuron].mean_activation, margin
                )
            }
        return weak

    def score_pools(self, pools: Mapping[Neuron, Sequence[str]]) -> dict[Neuron, Float[np.ndarray, " _"]]:
        """Scores of any concepts, each neuron's pool against itself; dead neurons are left out."""
        return self._pool_scores(pools, self.studio)

    def score_pools_anew(
        self, pools: Mapping[Neuron, Sequence[str]]
    ) -> dict[Neuron, Float[np.ndarray, " _"]]:
        """The same on newly drawn images, which no label of this run was chosen by."""
        return self._pool_scores(pools, self.fresh_studio)

    def _pool_scores(
        self, pools: Mapping[Neuron, Sequence[str]], studio: Studio
    ) -> dict[Neuron, Float[np.ndarray, " _"]]:
        exemplars = self.exemplars(list(pools))
        concepts = {neuron: pools[neuron] for neuron in exemplars}
        return self._scores(concepts, exemplars, self._views(exemplars), studio)

    def exemplar_vectors(self, neurons: Sequence[Neuron]) -> dict[Neuron, Float[np.ndarray, " _"]]:
        """The mean CLIP vector of each neuron's exemplars; dead neurons have none."""
        shown = self._exemplar_embeddings(self._views(self.exemplars(neurons)))
        return {neuron: vectors.mean(axis=0) for neuron, vectors in shown.items()}

    def activations(self, layer: str) -> Activations:
        """The activations of one of the run's layers on the probing set."""
        return self._activations()[layer]

    def _activations(self) -> dict[str, Activations]:
        if not self.probe.images:
            raise UsageError(
                "something asks for activations, but the probing set has no images (probe=none): choose a"
                " probe, or evaluators that look at labels only"
            )
        return probe_activations(self.store, self.parts.target, self.probe, self.layers)

    def _exemplar_embeddings(
        self, views: Mapping[Neuron, Sequence[View]]
    ) -> dict[Neuron, Float[np.ndarray, "_ _"]]:
        flat = [view.pixels for of_neuron in views.values() for view in of_neuron]
        vectors = iter(embed_images(self.store, self.parts.encoder, flat) if flat else ())
        return {neuron: np.stack([next(vectors) for _ in of_neuron]) for neuron, of_neuron in views.items()}

    def labelled(
        self,
        neuron: Neuron,
        candidates: Sequence[ScoredCandidate],
        exemplars: Exemplars,
        unscored: str | None = None,
    ) -> Explanation:
        """A neuron with as many of these candidates, best first, for labels as the settings ask for.

        unscored: the reason why it gets none.
        """
        settings = self.settings.labels
        texts = [candidate.text for candidate in candidates if candidate.reason is None]
        if unscored is not None or not texts:
            return Explanation(neuron, tuple(candidates), (), unscored or NO_CANDIDATE, exemplars)
        vectors = embed_texts(self.store, self.parts.encoder, texts) if settings.n_labels > 1 else None
        labels = first_distinct(texts, vectors, settings)
        return Explanation(neuron, tuple(candidates), labels, None, exemplars)

    def label_each(
        self,
        neurons: Sequence[Neuron],
        ranked_concepts: Callable[[Neuron], tuple[Sequence[ScoredCandidate], str | None]],
    ) -> list[Explanation]:
        """One explanation a neuron, in order, for methods with concepts of their own.

        ranked_concepts: a neuron's concepts, best first, and why none of them is its label, if so.
        """
        exemplars = self.exemplars(neurons)

        def explained(neuron: Neuron) -> Explanation:
            if neuron not in exemplars:
                return Explanation(neuron, (), unscored=DEAD)
            candidates, unscored = ranked_concepts(neuron)
            return self.labelled(neuron, candidates, exemplars[neuron], unscored)

        return [explained(neuron) for neuron in neurons]

    def exemplars(self, neurons: Sequence[Neuron]) -> dict[Neuron, Exemplars]:
        """Step 1: what excites each neuron most; dead neurons are left out."""
        target, probe, store = self.parts.target, self.probe, self.store
        activations = self._activations()
        alive = [n for n in neurons if not never_fires(activations[n.layer], n.unit)]
        found = find_exemplars(store, target, probe, activations, alive, self.settings.exemplars)
        return dict(zip(alive, found, strict=True))

    def _views(self, exemplars: Mapping[Neuron, Exemplars]) -> dict[Neuron, list[View]]:
        return {neuron: views_of(self.probe, of_neuron) for neuron, of_neuron in exemplars.items()}

    def _proposals(self, views: Sequence[Sequence[View]]) -> list[list[str]]:
        """Step 2: at most N candidate concepts of each neuron, from what it was shown with."""
        proposer = self.parts.summarizer
        if not isinstance(proposer, Proposer):
            return self._summaries(proposer, self._captions(views))
        n, seed = self.settings.n_candidates, self.settings.seed
        keys: list[Key] = [
            {
                "proposer": proposer.fingerprint,
                "views": [pixels_digest(view.pixels) for view in of_neuron],
                "n": n,
                "seed": seed,
            }
            for of_neuron in views
        ]
        found: list[list[str]] = self.store.fill(
            "candidates", keys, lambda indices: proposer.propose([views[i] for i in indices], n, seed)
        )
        return found

    def _captions(self, views: Sequence[Sequence[View]]) -> list[list[str]]:
        """Step 2A: a caption for every exemplar; captions of all neurons share batches."""
        flat = [view for of_neuron in views for view in of_neuron]
        captioner = self.parts.captioner
        keys: list[Key] = [
            {"captioner": captioner.fingerprint, "pixels": pixels_digest(view.pixels), "own": view.caption}
            for view in flat
        ]
        captions = self.store.fill(
            "captions", keys, lambda indices: captioner.caption([flat[i] for i in indices])
        )
        taken: Iterator[str] = iter(captions)
        return [[next(taken) for _ in of_neuron] for of_neuron in views]

    def _summaries(self, summarizer: Summarizer, captions: Sequence[Sequence[str]]) -> list[list[str]]:
        """Step 2B: at most N candidate concepts from each neuron's captions."""
        n, seed = self.settings.n_candidates, self.settings.seed
        keys: list[Key] = [
            {"summarizer": summarizer.fingerprint, "captions": list(of_neuron), "n": n, "seed": seed}
            for of_neuron in captions
        ]
        found: list[list[str]] = self.store.fill(
            "candidates",
            keys,
            lambda indices: summarizer.summarize([captions[i] for i in indices], n, seed),
        )
        return found

    def _scores(
        self,
        concepts: Mapping[Neuron, Sequence[str]],
        exemplars: Mapping[Neuron, Exemplars],
        views: Mapping[Neuron, Sequence[View]],
        studio: Studio,
    ) -> dict[Neuron, Float[np.ndarray, " _"]]:
        """Step 3: images of every concept, the neuron's activations on them, and a score for each."""
        scorer = self.parts.scorer
        evidence = self._evidence(concepts, exemplars, views, studio, scorer.needs_probe)
        with self.store.timed("scoring"):
            return {
                neuron: scorer.score(evidence[neuron]) if neuron in evidence else np.empty(0)
                for neuron in concepts
            }

    def evidence(self, candidates: Mapping[Neuron, Sequence[str]]) -> dict[Neuron, Evidence]:
        """All that any scorer may look at, for each neuron and its candidates; dead neurons are left out."""
        exemplars = self.exemplars(list(candidates))
        concepts = {neuron: candidates[neuron] for neuron in exemplars}
        return self._evidence(concepts, exemplars, self._views(exemplars), self.studio, with_probe=True)

    def _evidence(
        self,
        concepts: Mapping[Neuron, Sequence[str]],
        exemplars: Mapping[Neuron, Exemplars],
        views: Mapping[Neuron, Sequence[View]],
        studio: Studio,
        with_probe: bool,
    ) -> dict[Neuron, Evidence]:
        """What is known of each neuron that has a candidate."""
        renderings = studio.render([text for texts in concepts.values() for text in texts])
        shown = self._exemplar_embeddings({neuron: views[neuron] for neuron in concepts})
        correlations = self._correlations(concepts) if with_probe else {}
        return {
            neuron: gather_evidence(
                neuron,
                exemplars[neuron],
                shown[neuron],
                [renderings[text] for text in texts],
                correlations.get(neuron),
            )
            for neuron, texts in concepts.items()
            if texts
        }

    def _correlations(
        self, concepts: Mapping[Neuron, Sequence[str]]
    ) -> dict[Neuron, Float[np.ndarray, " _"]]:
        return probe_correlations(self.store, self.parts.encoder, self.probe, self._activations(), concepts)


@runtime_checkable
class Method(Protocol):
    """A way to come to labels.

    `has_candidates`: whether it scores candidates from captions, other methods and the user, as the pipeline
    does, or knows only its own concepts.
    """

    has_candidates: bool

    def check(self, neurons: Sequence[Neuron], layers: Sequence[Layer]) -> None:
        """Raises `UsageError`, before any work, where it has nothing to say of these neurons."""

    def explain(self, neurons: Sequence[Neuron], pipeline: DescribeAndDissect) -> list[Explanation]:
        """One explanation a neuron, in order; `pipeline` is that of the run's settings."""


def gather_evidence(
    neuron: Neuron,
    exemplars: Exemplars,
    exemplar_embeddings: Float[np.ndarray, "exemplars dim"],
    renderings: Sequence[Rendering],
    probe_correlation: Float[np.ndarray, " concepts"] | None = None,
) -> Evidence:
    """What a scorer may know of one neuron and its candidates; rows are filled up with NaN."""
    n_images = max(len(rendering.images) for rendering in renderings)
    activations = np.full((len(renderings), n_images), np.nan)
    image_image = np.full((len(renderings), n_images), np.nan)
    image_text = np.full(len(renderings), np.nan)
    center = exemplar_embeddings.mean(axis=0)  # a mean of cosines is the cosine sum with the mean vector
    for row, rendering in enumerate(renderings):
        n = len(rendering.images)
        activations[row, :n] = rendering.activations[neuron.layer][:, neuron.unit]
        image_image[row, :n] = rendering.embeddings @ center
        image_text[row] = rendering.text_embedding @ center
    return Evidence(activations, image_image, image_text, exemplars.mean_activation, probe_correlation)


def _texts(pool: Mapping[Neuron, Sequence[Candidate]]) -> dict[Neuron, list[str]]:
    return {neuron: [candidate.text for candidate in candidates] for neuron, candidates in pool.items()}


def _answer(candidates: Sequence[Candidate], scores: Float[np.ndarray, " candidates"]) -> str:
    return candidates[int(np.nanargmax(scores))].text
