"""The frozen data types, in the order in which data flows through a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

#: One image: height, width, RGB bytes.
Image = UInt8[np.ndarray, "_ _ 3"]
#: True on the foreground of an image.
Mask = Bool[np.ndarray, "_ _"]
#: Left, top, right, bottom in pixels of the original image; right and bottom are exclusive.
Box = tuple[int, int, int, int]
#: Units of layers whose activations are set to 0 before the network goes on.
Pruning = Mapping[str, Sequence[int]]
#: Where a concept came from: captions of exemplars, captions of generated images, another method, the user,
#: or from the user and one of the others.
Origin = Literal["captions", "refined", "method", "user", "both"]


@dataclass(frozen=True)
class Layer:
    """What a target offers at one place: feature maps (spatial), token sequences or logits."""

    name: str
    units: int
    spatial: bool
    nonnegative: bool


@dataclass(frozen=True, order=True)
class Neuron:
    """One unit of one layer; units count from 0."""

    layer: str
    unit: int

    def __str__(self) -> str:
        return f"{self.layer}:{self.unit}"


@dataclass(frozen=True)
class Skipped:
    """An image of a data set that could not be read, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class ConceptMasks:
    """Where each image of a set shows which concepts (as in Broden), at a resolution of the masks' own.

    `load(index)`: the numbers of the concepts that an image shows, and the mask of each. `categories` of the
    concepts (object, texture ...); `annotated(index)`: those that an image was annotated for. `version` names
    the content of the masks.
    """

    names: Sequence[str]
    categories: Sequence[str]
    load: Callable[[int], tuple[Int[np.ndarray, " shown"], Bool[np.ndarray, "shown _ _"]]]
    annotated: Callable[[int], frozenset[str]]
    version: str


@dataclass(frozen=True)
class ProbeSet:
    """Images in a fixed order, decoded when they are asked for.

    `ids` name the *content* of the images (equal ids, equal pixels); `captions`, `masks` (of the
    foreground), `classes` (of each image) and `concepts` (where they are) are the data set's own. `skipped`
    are those of its images that could not be read.
    """

    name: str
    ids: Sequence[str]
    images: Sequence[Image]
    captions: Sequence[str] | None = None
    masks: Sequence[Mask] | None = None
    classes: Sequence[str] | None = None
    concepts: ConceptMasks | None = None
    skipped: Sequence[Skipped] = ()

    @cached_property
    def digest(self) -> str:
        """A name for the whole set: SHA-256 over the ids in order."""
        return sha256("\n".join(self.ids).encode()).hexdigest()


@dataclass(frozen=True)
class Activations:
    """Pooled activations of one layer on a probing set, memory-mapped; `digest` names their content."""

    layer: Layer
    values: Float[np.ndarray, "images units"]
    digest: str


@dataclass(frozen=True)
class Exemplar:
    """A probing image, or a crop of it, and the neuron's activation on it."""

    index: int
    box: Box | None
    activation: float


@dataclass(frozen=True)
class Exemplars:
    """One neuron's highest images and crops together, highest first."""

    neuron: Neuron
    items: tuple[Exemplar, ...]

    @property
    def mean_activation(self) -> float:
        """The mean activation over the exemplars."""
        return float(np.mean([item.activation for item in self.items]))


@dataclass(frozen=True)
class View:
    """An exemplar as the captioner sees it: its pixels, and its image's own caption if there is one."""

    pixels: Image
    caption: str | None


@dataclass(frozen=True)
class Seen:
    """One neuron's exemplars, each as the captioner saw it and with what it said."""

    exemplars: Exemplars
    views: tuple[View, ...]
    captions: tuple[str, ...]


@dataclass(frozen=True)
class Question:
    """What a chat model is asked: a text and the images it is about; `seed` tells repeated samples apart."""

    text: str
    images: tuple[Image, ...] = ()
    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Answer:
    """What it answered, and what that took; `dollars` is None where prices are unknown.

    `started`: seconds since 1970. `stopped`: why the answer ends (stop, length, content_filter ...).
    """

    text: str
    stopped: str
    prompt_tokens: int
    completion_tokens: int
    dollars: float | None
    started: float
    seconds: float


@dataclass(frozen=True)
class Call:
    """A question that was asked in this run, its images by the names of their content, and the answer."""

    text: str
    images: Sequence[str]
    temperature: float
    seed: int
    answer: Answer


@dataclass
class Usage:
    """What a part asked of a chat model: questions, of which `stored` were answered before this run."""

    model: str
    stored: int = 0
    calls: list[Call] = field(default_factory=list)

    @property
    def totals(self) -> dict[str, float | None]:
        """Sums over the calls of this run."""
        dollars = [call.answer.dollars for call in self.calls]
        known = [value for value in dollars if value is not None]
        return {
            "asked": float(len(self.calls)),
            "stored": float(self.stored),
            "prompt_tokens": float(sum(call.answer.prompt_tokens for call in self.calls)),
            "completion_tokens": float(sum(call.answer.completion_tokens for call in self.calls)),
            "dollars": sum(known) if len(known) == len(dollars) else None,
        }


@dataclass(frozen=True)
class Candidate:
    """A concept that may describe a neuron, where it came from, and in which iteration (0: before any)."""

    text: str
    origin: Origin
    iteration: int = 0


@dataclass(frozen=True)
class Rendering:
    """The images that were generated for one concept, and what they evoke.

    `activations` holds every layer of the run: {layer: [images, units]}; `embeddings` are unit vectors.
    """

    concept: str
    images: UInt8[np.ndarray, "images height width 3"]
    activations: Mapping[str, Float[np.ndarray, "images _"]]
    embeddings: Float[np.ndarray, "images dim"]
    text_embedding: Float[np.ndarray, " dim"]


@dataclass(frozen=True)
class Evidence:
    """All that a scorer may look at for one neuron; NaN where a concept has fewer images than others.

    activations: of the neuron on each candidate's generated images.
    image_image: mean CLIP cosine of each generated image with the neuron's exemplars.
    image_text: mean CLIP cosine of each candidate's text with the neuron's exemplars.
    exemplar_activation: the neuron's mean activation on its exemplars.
    probe_correlation: over the probing set, of the neuron's activation with each candidate's CLIP cosine;
        only for scorers that ask for it.
    """

    activations: Float[np.ndarray, "candidates images"]
    image_image: Float[np.ndarray, "candidates images"]
    image_text: Float[np.ndarray, " candidates"]
    exemplar_activation: float
    probe_correlation: Float[np.ndarray, " candidates"] | None = None


@dataclass(frozen=True)
class ScoredCandidate:
    """A candidate and its score; NaN and a reason where it could not be scored."""

    text: str
    origin: Origin
    score: float
    reason: str | None = None
    iteration: int = 0


@dataclass(frozen=True)
class Course:
    """How the refinement of a neuron went.

    progress: of each iteration. stopped: why there was no further one. answers: the best concept before
    the first iteration (the unrefined answer) and after each.
    """

    progress: tuple[float, ...] = ()
    stopped: str | None = None
    answers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Explanation:
    """What was found for one neuron: candidates best first, or the reason why there is no label.

    `labels` are its words: the best candidate's, and further ones where several were asked for.
    """

    neuron: Neuron
    candidates: tuple[ScoredCandidate, ...]
    labels: tuple[str, ...] = ()
    unscored: str | None = None
    exemplars: Exemplars | None = None
    course: Course | None = None

    @property
    def cluster(self) -> str:
        """Neurons with the same labels share generated images: they are one cluster."""
        return " | ".join(self.labels) or str(self.neuron)

    @property
    def best(self) -> ScoredCandidate | None:
        """The candidate that was chosen."""
        return None if self.unscored else self.candidates[0]


@dataclass(frozen=True)
class Plot:
    """How a table is drawn: `y` over `x`, a line for each combination of values of the columns `series`."""

    x: str
    y: str
    series: tuple[str, ...]
    title: str


@dataclass(frozen=True)
class Table:
    """What an evaluator found that is no metric: rows of plain values, and how to draw them."""

    name: str
    rows: Sequence[Mapping[str, Any]]
    plot: Plot | None = None


@dataclass(frozen=True)
class Scorecard:
    """One metric of one evaluator: a value for each item, NaN where an item is unscored.

    A metric of the whole run has one item, and no interval. `higher_is_better` is None for what only
    describes. `clusters` names items whose values are not independent (same label, same images). `chance` and
    `oracle` are the metric's means for shuffled and for true labels; `controls` hold further baselines.
    `signed`: values are differences, 0 where there is none. `judge` names the model by which values were
    given, where they compare with no other model's.
    """

    metric: str
    higher_is_better: bool | None
    item_kind: Literal["neuron", "class", "image", "pair", "run"]
    items: Sequence[str]
    values: Float[np.ndarray, " items"]
    clusters: Sequence[str]
    chance: float | None = None
    oracle: float | None = None
    controls: Mapping[str, float] = field(default_factory=dict)
    signed: bool = False
    judge: str = ""

    @classmethod
    def of_neurons(
        cls,
        metric: str,
        explanations: Sequence[Explanation],
        values: Sequence[float] | Float[np.ndarray, " neurons"],
        *,
        higher_is_better: bool | None,
        chance: float | None = None,
        oracle: float | None = None,
        controls: Mapping[str, float] | None = None,
        signed: bool = False,
        judge: str = "",
        unscored: Sequence[Explanation] = (),
    ) -> Scorecard:
        """A value for each neuron, none for `unscored`; those with the same labels are one cluster."""
        explanations = [*explanations, *unscored]
        values = np.concatenate([np.asarray(values, float), np.full(len(unscored), np.nan)])
        return cls(
            metric=metric,
            higher_is_better=higher_is_better,
            item_kind="neuron",
            items=[str(explanation.neuron) for explanation in explanations],
            values=np.asarray(values, float),
            clusters=[explanation.cluster for explanation in explanations],
            chance=chance,
            oracle=oracle,
            controls=controls or {},
            signed=signed,
            judge=judge,
        )
