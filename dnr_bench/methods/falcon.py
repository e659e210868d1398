"""FALCON (Kalibhat et al. 2023): words that fit what units fire on, and do not fit its look-alikes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from dnr_bench.captioners.clip_concepts import in_template, read_concepts
from dnr_bench.data.exemplars import Activations
from dnr_bench.data.explanation import Explanation, ScoredCandidate
from dnr_bench.data.neuron import Layer, Neuron
from dnr_bench.infra.digests import Key, fingerprint_of
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.ranges import check_range
from dnr_bench.infra.source import code_of
from dnr_bench.methods.labeling import LabelSettings, label_each
from dnr_bench.session import Session
from dnr_bench.stages.caption_contrast import CaptionContrast
from dnr_bench.stages.embeddings import embed_views
from dnr_bench.stages.exemplars import probe_view

NO_WORD = "no word fits its exemplars better than images that activate it little"
#: Neurons that are looked at before others may be claimed by another process.
_NEURONS = 256
#: Probing images that are compared at a time.
_CHUNK = 8192


class Falcon:
    """The label of a neuron are the words that are nearest to its exemplars, as against look-alikes.

    Look-alikes are the probing images that CLIP takes for the exemplars, and that activate the neuron little.
    Captions come from a file, or from what the probing set says of its images: for each exemplar the nearest
    ones in CLIP's eyes. Their words are scored by their mean cosine with the exemplars less that with the
    look-alikes, and dropped where that is not above 0. Words that score nearly as high as the best one make
    one label with it.

    Args:
        captions: a file of one caption per line; None: those of the probing set, or names of its classes.
        captions_per_image: nearest captions of each exemplar.
        low: only the images of this share with the lowest activation may be look-alikes.
        group_size: a neuron is explained together with at most so many less one other units of its layer.
        group_threshold: these are on average so many standard deviations above their mean on its exemplars.
        joined: words make one label with the best one if they score at least this share of it; 1: alone.
        template: the phrase in which CLIP reads a word.
        contrast: tells which words of captions count.
        top: words that are kept of each neuron.
        labels: how many labels a neuron gets.

    Raises:
        UsageError: a setting is out of range.
    """

    def __init__(
        self,
        captions: str | None,
        captions_per_image: int,
        low: float,
        group_size: int,
        group_threshold: float,
        joined: float,
        template: str,
        contrast: CaptionContrast,
        top: int,
        labels: LabelSettings,
    ) -> None:
        check_range(1, 1000, captions_per_image=captions_per_image, group_size=group_size, top=top)
        check_range(0, 1000, group_threshold=group_threshold)
        if not 0 < low < 1:
            raise UsageError(f"low={low} must lie between 0 and 1")
        check_range(0, 1, joined=joined)
        in_template(["word"], template)
        self.captions = read_concepts(captions) if captions is not None else None
        self.per_image, self.low, self.template = captions_per_image, low, template
        self.group_size, self.group_threshold, self.joined = group_size, group_threshold, joined
        self._moments: tuple[str, tuple[np.ndarray, np.ndarray]] | None = None
        self.wording, self.contrast, self.top, self.labels = contrast.wording, contrast, top, labels

    def check(self, neurons: Sequence[Neuron], layers: Sequence[Layer]) -> None:
        """Every neuron can be described."""

    def check_images(self, session: Session) -> None:
        """Raises `UsageError` where there are no captions."""
        self._captions(session)

    def explain(self, neurons: Sequence[Neuron], session: Session) -> list[Explanation]:
        """One explanation per neuron, in order; scores are differences of cosines."""
        alive = list(session.exemplars(neurons))
        found = dict(zip(alive, self._found(alive, session), strict=True))

        def words_of(neuron: Neuron) -> tuple[list[ScoredCandidate], str | None]:
            kept = [ScoredCandidate(text, "method", score) for text, score in found[neuron].words]
            return kept, None if kept else NO_WORD

        explained = label_each(neurons, words_of, self.labels, session)
        return [
            replace(e, group=tuple(Neuron(e.neuron.layer, unit) for unit in found[e.neuron].partners))
            if e.neuron in found
            else e
            for e in explained
        ]

    def _found(self, neurons: Sequence[Neuron], session: Session) -> list[_Found]:
        captions = self._captions(session)
        probe = session.probe
        code, said = (
            code_of(__name__, session.encoder, probe.images),
            fingerprint_of("captions", {"said": captions}),
        )
        keys: list[Key] = [
            {
                "code": code,
                "encoder": session.encoder.fingerprint,
                "images": probe.digest,
                "exemplars": [view.name for view in session.views(of_neuron)],
                "activations": session.activations(neuron.layer).digest,
                "unit": neuron.unit,
                "captions": said,
                "contrast": self.contrast.fingerprint,
                "settings": [
                    self.per_image, self.low, self.group_size, self.group_threshold, self.joined,
                    self.template, self.top,
                ],
            }
            for neuron, of_neuron in session.exemplars(neurons).items()
        ]  # fmt: skip

        def compute(missing: list[int]) -> Iterator[list[object]]:
            seen = _Seen(captions, session.embed_texts(captions), session.probe_vectors())
            for place in missing:
                found = self._explained(neurons[place], seen, session)
                yield [[list(word) for word in found.words], list(found.partners)]

        stored = session.store.fill("falcon", keys, compute, batch=_NEURONS)
        return [
            _Found(tuple((text, float(score)) for text, score in words), tuple(partners))
            for words, partners in stored
        ]

    def _captions(self, session: Session) -> list[str]:
        if self.captions is not None:
            return self.captions
        if session.probe.words is None:
            raise UsageError(
                f"method=falcon takes words from captions, and {session.probe.name} has none:"
                " give method.captions=FILE (a caption per line), probe.captions=FILE or probe.labels=folders"
            )
        found = list(dict.fromkeys(text for text in session.probe.words if text.strip()))
        if not found:
            raise UsageError(
                f"method=falcon takes words from captions, and those of {session.probe.name} are empty"
            )
        return found

    def _explained(self, neuron: Neuron, seen: _Seen, session: Session) -> _Found:
        activations = session.activations(neuron.layer)
        exemplars = session.exemplars([neuron])[neuron]
        views = session.views(exemplars)
        images = list(dict.fromkeys(item.index for item in exemplars.items))
        partners = self._partners(activations, neuron.unit, images)
        if partners:
            images = shared_highest(activations, [neuron.unit, *partners], session.exemplar_settings.n)
            views = [probe_view(session.probe, place) for place in images]
        (high,) = embed_views(session.store, session.encoder, [views])
        low = look_alikes(high, activations.values[:, neuron.unit], images, seen.images, self.low)
        nearest = np.argsort(-(high @ seen.texts.T), axis=1, kind="stable")[:, : self.per_image]
        spoken = [seen.captions[i] for i in dict.fromkeys(nearest.ravel().tolist())]
        words = self._words(spoken)
        if not words or not len(low):
            return _Found((), tuple(partners))
        vectors = session.embed_texts(in_template(words, self.template))
        scores = (high @ vectors.T).mean(axis=0) - (low @ vectors.T).mean(axis=0)
        order = [int(i) for i in np.argsort(-scores, kind="stable")[: self.top] if scores[i] > 0]
        ranked = [(words[i], float(scores[i])) for i in order]
        return _Found(tuple(self._with_joined(ranked, spoken)), tuple(partners))

    def _with_joined(
        self, ranked: Sequence[tuple[str, float]], captions: Sequence[str]
    ) -> list[tuple[str, float]]:
        """The words, before them those that are nearly as good as the best one as one text."""
        near = [(text, score) for text, score in ranked if score >= self.joined * ranked[0][1]]
        if len(near) < 2:
            return list(ranked)
        chosen = [text for text, _ in near]
        said = (self.wording.words(caption) for caption in captions)
        order = next((words for words in said if set(chosen) <= set(words)), chosen)
        text = " ".join(sorted(chosen, key=order.index))
        return [(text, float(np.mean([score for _, score in near]))), *ranked]

    def _partners(self, activations: Activations, unit: int, images: Sequence[int]) -> list[int]:
        """Other units that fire on the same images, the highest first."""
        if self.group_size == 1:
            return []
        mean, deviation = self._of_layer(activations)
        heights = (activations.values[list(images)].mean(axis=0) - mean) / deviation
        heights[unit] = -np.inf
        order = np.argsort(-heights, kind="stable")[: self.group_size - 1]
        return [int(other) for other in order if heights[other] >= self.group_threshold]

    def _of_layer(self, activations: Activations) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of all units of a layer, once for all of its neurons."""
        if self._moments is None or self._moments[0] != activations.digest:
            self._moments = activations.digest, layer_moments(activations.values)
        return self._moments[1]

    def _words(self, captions: Sequence[str]) -> list[str]:
        """The distinct words of captions; of several forms of a word the first."""
        first: dict[tuple[str, ...], str] = {}
        for caption in captions:
            for text in self.wording.words(caption):
                first.setdefault(self.wording.terms(text), text)
        return [text for terms, text in first.items() if terms]


@dataclass(frozen=True)
class _Seen:
    """What all neurons share: captions with their vectors, and those of the probing images."""

    captions: Sequence[str]
    texts: Float[np.ndarray, "captions dim"]
    images: Float[np.ndarray, "images dim"]


@dataclass(frozen=True)
class _Found:
    words: tuple[tuple[str, float], ...]
    partners: tuple[int, ...]


def look_alikes(
    high: Float[np.ndarray, "exemplars dim"],
    values: Float[np.ndarray, " images"],
    images: Sequence[int],
    vectors: Float[np.ndarray, "images dim"],
    low: float,
) -> Float[np.ndarray, "look_alikes dim"]:
    """For each exemplar the vector of the nearest image that activates the neuron little, each image once.

    Args:
        high: unit vectors of the exemplars.
        values: the neuron's activation on each probing image.
        images: the places of the exemplars' images, which are none.
        vectors: unit vectors of the probing images.
        low: only images in this share with the lowest activation are looked at; images of equal activation
        alike.
    """
    is_low = values <= np.quantile(values, low)
    is_low[list(images)] = False
    cosines = np.concatenate(
        [vectors[first : first + _CHUNK] @ high.T for first in range(0, len(vectors), _CHUNK)], axis=0
    )
    cosines[~is_low] = -np.inf
    chosen: list[int] = []
    for column in cosines.T:
        order = np.argsort(-column, kind="stable")[: len(chosen) + 1]
        chosen += [int(place) for place in order if place not in chosen and is_low[place]][:1]
    found: np.ndarray = np.asarray(vectors[chosen])
    return found


def shared_highest(activations: Activations, units: Sequence[int], n: int) -> list[int]:
    """The images on which the least active of some units is most active, in standard deviations."""
    values = np.asarray(activations.values[:, list(units)], float)
    heights = (values - values.mean(axis=0)) / np.maximum(values.std(axis=0), 1e-12)
    order = np.argsort(-heights.min(axis=1), kind="stable")[:n]
    return [int(place) for place in order]


def layer_moments(
    values: Float[np.ndarray, "images units"],
) -> tuple[Float[np.ndarray, " units"], Float[np.ndarray, " units"]]:
    """Mean and standard deviation of all units, in chunks of images; 1 for units that never change."""
    total, squares = np.zeros(values.shape[1]), np.zeros(values.shape[1])
    for first in range(0, len(values), _CHUNK):
        chunk = np.asarray(values[first : first + _CHUNK], float)
        total, squares = total + chunk.sum(axis=0), squares + (chunk**2).sum(axis=0)
    mean = total / len(values)
    deviation = np.sqrt(np.maximum(squares / len(values) - mean**2, 0))
    return mean, np.where(deviation > 1e-9, deviation, 1.0)
