"""Describe-and-Dissect from probing set to labels (DnD section 3), readable beside the paper."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from dnr_bench.activations import probe_activations
from dnr_bench.errors import UsageError
from dnr_bench.exemplars import ExemplarSettings, find_exemplars, never_fires, views_of
from dnr_bench.parts import Captioner, Generator, ImageTextEncoder, Scorer, Summarizer, Target
from dnr_bench.renderings import DrawingSettings, Studio, embed_images
from dnr_bench.store import Key, Store, pixels_digest
from dnr_bench.types import (
    Candidate,
    Evidence,
    Exemplars,
    Explanation,
    Layer,
    Neuron,
    ProbeSet,
    Rendering,
    ScoredCandidate,
    View,
)

DEAD = "dead: the same activation on every probing image"
NO_CANDIDATE = "the summariser proposed no concept"
NO_SCORE = "no candidate could be scored"


@dataclass(frozen=True)
class Parts:
    """The exchangeable parts of a run."""

    target: Target
    captioner: Captioner
    summarizer: Summarizer
    generator: Generator
    encoder: ImageTextEncoder
    scorer: Scorer


@dataclass(frozen=True)
class Settings:
    """The method's own settings; `n_candidates` is N."""

    exemplars: ExemplarSettings
    drawing: DrawingSettings
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
        self.studio = Studio(
            store,
            parts.generator,
            parts.target,
            parts.encoder,
            [layer.name for layer in layers],
            settings.drawing,
            settings.seed,
        )

    def explain(self, neurons: Sequence[Neuron]) -> list[Explanation]:
        """One explanation a neuron, in order; dead neurons are unscored with that reason."""
        exemplars = self._exemplars(neurons)
        views = self._views(exemplars)
        proposed = self._candidates(self._captions(list(views.values())))
        candidates = dict(zip(exemplars, proposed, strict=True))
        concepts = {neuron: [c.text for c in of_neuron] for neuron, of_neuron in candidates.items()}
        scores = self._scores(concepts, exemplars, views)
        explained = {
            neuron: _explanation(neuron, candidates[neuron], scores[neuron], exemplars[neuron])
            for neuron in exemplars
        }
        return [explained.get(neuron) or Explanation(neuron, (), unscored=DEAD) for neuron in neurons]

    def score_pools(
        self, pools: Mapping[Neuron, Sequence[str]]
    ) -> dict[Neuron, Float[np.ndarray, " concepts"]]:
        """Scores of any concepts, each neuron's pool against itself; dead neurons are left out."""
        exemplars = self._exemplars(list(pools))
        concepts = {neuron: pools[neuron] for neuron in exemplars}
        return self._scores(concepts, exemplars, self._views(exemplars))

    def _exemplars(self, neurons: Sequence[Neuron]) -> dict[Neuron, Exemplars]:
        """Step 1: what excites each neuron most; dead neurons are left out."""
        target, probe, store = self.parts.target, self.probe, self.store
        activations = probe_activations(store, target, probe, self.layers)
        alive = [n for n in neurons if not never_fires(activations[n.layer], n.unit)]
        found = find_exemplars(store, target, probe, activations, alive, self.settings.exemplars)
        return dict(zip(alive, found, strict=True))

    def _views(self, exemplars: Mapping[Neuron, Exemplars]) -> dict[Neuron, list[View]]:
        return {neuron: views_of(self.probe, of_neuron) for neuron, of_neuron in exemplars.items()}

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

    def _candidates(self, captions: Sequence[Sequence[str]]) -> list[list[Candidate]]:
        """Step 2B: at most N candidate concepts from each neuron's captions."""
        n, seed, summarizer = self.settings.n_candidates, self.settings.seed, self.parts.summarizer
        keys: list[Key] = [
            {"summarizer": summarizer.fingerprint, "captions": list(of_neuron), "n": n, "seed": seed}
            for of_neuron in captions
        ]
        texts = self.store.fill(
            "candidates",
            keys,
            lambda indices: summarizer.summarize([captions[i] for i in indices], n, seed),
        )
        return [[Candidate(text, "captions") for text in of_neuron] for of_neuron in texts]

    def _scores(
        self,
        concepts: Mapping[Neuron, Sequence[str]],
        exemplars: Mapping[Neuron, Exemplars],
        views: Mapping[Neuron, Sequence[View]],
    ) -> dict[Neuron, Float[np.ndarray, " concepts"]]:
        """Step 3: images of every concept, the neuron's activations on them, and a score for each."""
        renderings = self.studio.render([text for texts in concepts.values() for text in texts])
        flat = [view.pixels for neuron in concepts for view in views[neuron]]
        vectors = iter(embed_images(self.store, self.parts.encoder, flat) if flat else ())
        shown = {neuron: np.stack([next(vectors) for _ in views[neuron]]) for neuron in concepts}
        with self.store.timed("scoring"):
            return {
                neuron: self.parts.scorer.score(
                    gather_evidence(
                        neuron, exemplars[neuron], shown[neuron], [renderings[text] for text in texts]
                    )
                )
                if texts
                else np.empty(0)
                for neuron, texts in concepts.items()
            }


def gather_evidence(
    neuron: Neuron,
    exemplars: Exemplars,
    exemplar_embeddings: Float[np.ndarray, "exemplars dim"],
    renderings: Sequence[Rendering],
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
    return Evidence(activations, image_image, image_text, exemplars.mean_activation)


def _explanation(
    neuron: Neuron,
    candidates: Sequence[Candidate],
    scores: Float[np.ndarray, " candidates"],
    exemplars: Exemplars,
) -> Explanation:
    """Candidates best first, the earlier one first in a tie, unscored ones last."""
    order = np.argsort(-scores, kind="stable")
    ranked = tuple(
        ScoredCandidate(
            candidates[i].text,
            candidates[i].origin,
            float(scores[i]),
            "no image to score it on" if np.isnan(scores[i]) else None,
        )
        for i in order
    )
    unscored = NO_CANDIDATE if not ranked else NO_SCORE if ranked[0].reason else None
    return Explanation(neuron, ranked, unscored, exemplars)
