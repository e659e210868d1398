"""The protocols: what each replaceable part of a run must offer.

A `fingerprint` names everything that a part's results depend on beside its code (weights, preprocessing,
settings); it is part of the keys under which results are stored. Stages add the code themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from dnr_bench.data.captions import Captions
from dnr_bench.data.chat import Answer, Question, Usage
from dnr_bench.data.evidence import Evidence, Need
from dnr_bench.data.images import Image, ProbeSet, VectorsOf, View
from dnr_bench.data.neuron import Layer, Neuron, Pruning
from dnr_bench.infra.digests import Key


@runtime_checkable
class Target(Protocol):
    """The network whose neurons are described."""

    fingerprint: str

    def layers(self) -> Sequence[Layer]:
        """Every layer that can be described."""

    def run(self, images: Sequence[Image], layers: Sequence[str]) -> dict[str, Float[np.ndarray, "images _"]]:
        """Pooled activations of whole layers; images may be of any size."""

    def stream(
        self, images: Sequence[Image], layers: Sequence[str], prunings: Sequence[Pruning] = ({},)
    ) -> Iterator[list[dict[str, Float[np.ndarray, "batch _"]]]]:
        """The same batch by batch, once for each pruning, whose units are set to 0.

        Images may be decoded when they are asked for, from several threads, each of them once.
        """

    def maps(
        self, images: Sequence[Image], layer: str, pairs: Sequence[tuple[int, int]]
    ) -> list[Float[np.ndarray, "map_height map_width"]]:
        """The activation map of each (image index, unit) of a spatial layer."""

    def seen_box(self, height: int, width: int) -> tuple[float, float, float, float]:
        """The part of an image of this size that reaches the network: left, top, right, bottom."""

    def unit_names(self, layer: str) -> Sequence[str] | None:
        """The true names of a layer's units, where they are known (classes of the last layer)."""


@runtime_checkable
class Steerable(Target, Protocol):
    """A network whose units can be moved while it computes."""

    def moved(
        self,
        images: Sequence[Image],
        layer: str,
        units: Sequence[int],
        shifts: Float[np.ndarray, "images units"],
        read: str,
    ) -> Iterator[Float[np.ndarray, "units batch outputs"]]:
        """Of each batch the pooled output of the layer `read` when one unit after the other is moved.

        shifts: by how much each unit's activation rises on each image, at every place of its map alike.
        """


@runtime_checkable
class Probe(Protocol):
    """The data set that the target is probed with."""

    def load(self, seed: int) -> ProbeSet:
        """The images that may explain neurons."""


@runtime_checkable
class Corruption(Protocol):
    """Spoils probing images; `name` tells kind and severity, None that nothing is done."""

    name: str | None

    def apply(self, image: Image, seed: int) -> Image:
        """The image, changed; the same image and seed give the same pixels."""


@runtime_checkable
class Captioner(Protocol):
    """Describes images in words."""

    fingerprint: str

    def caption(self, views: Sequence[View]) -> Iterable[str]:
        """One caption per view, in order, each once it is there; empty where there is nothing to say."""


@runtime_checkable
class Describer(Protocol):
    """Describes several images at once, and says how likely it finds that."""

    fingerprint: str

    def likeliest(self, regions: Sequence[View], n: int) -> list[tuple[str, float]]:
        """At most `n` distinct descriptions of all images together, each with log p(description | images)."""


@runtime_checkable
class TextPrior(Protocol):
    """Says how likely texts are when nothing is seen."""

    fingerprint: str

    def log_priors(self, texts: Sequence[str]) -> list[float]:
        """The log probability of each text."""


@runtime_checkable
class Quoting(Captioner, Protocol):
    """A captioner that repeats what a data set says of its images, and has nothing to say of other ones."""

    quotes: str


@runtime_checkable
class Summarizer(Protocol):
    """Turns a neuron's captions into candidate concepts.

    `needs_others`: whether it holds them against captions of other images.
    """

    fingerprint: str
    needs_others: bool

    def summarize(self, captions: Sequence[Captions], n: int, seed: int) -> list[list[str]]:
        """For each neuron's captions at most `n` distinct concepts, the most fitting first."""


@runtime_checkable
class Proposer(Protocol):
    """Goes from a neuron's exemplars straight to candidate concepts, in place of captioner and summarizer."""

    fingerprint: str

    def propose(self, views: Sequence[Sequence[View]], n: int, seed: int) -> list[list[str]]:
        """For each neuron's exemplars at most `n` distinct concepts, the most fitting first."""


@runtime_checkable
class Chat(Protocol):
    """A language model that answers questions, some of them about images."""

    name: str
    fingerprint: str

    def check(self) -> None:
        """Raises `UsageError` where questions could not even be sent (no key)."""

    def ask(self, questions: Sequence[Question]) -> Iterator[tuple[int, Answer]]:
        """The place of each question and its answer, in the order in which answers come."""


@runtime_checkable
class Metered(Protocol):
    """A part that asks a chat model."""

    usage: Usage


@runtime_checkable
class Generator(Protocol):
    """Draws images of a prompt."""

    fingerprint: str

    def generate(
        self, prompts: Sequence[str], seeds: Sequence[int], numbers: Sequence[int] | None = None
    ) -> Iterable[Image]:
        """One image for each prompt and its seed, in order; the same pair gives the same image in any batch.

        `numbers`: the number of each image among those of its prompt, for generators that retrieve images.
        """


@runtime_checkable
class Retriever(Generator, Protocol):
    """A generator whose images are those of a data set; `ids` are those of all of them.

    It is asked for concepts as they are, and not for prompts.
    """

    ids: frozenset[str]

    def fit(
        self, concepts: Sequence[str], numbers: Sequence[int]
    ) -> Float[np.ndarray, "concepts images"] | None:
        """How well the images with these numbers show each concept: 1 as well as can be, 0 as any image does.

        None where nothing but CLIP can tell.
        """


@runtime_checkable
class TextEncoder(Protocol):
    """Turns texts into unit vectors; `name` tells people which model it is, without its folder."""

    name: str
    fingerprint: str

    def embed_texts(self, texts: Sequence[str]) -> Float[np.ndarray, "texts dim"]:
        """One unit vector per text, float32."""


@runtime_checkable
class ImageTextEncoder(TextEncoder, Protocol):
    """Turns images and texts into unit vectors of one space."""

    def embed_images(self, images: Sequence[Image]) -> Float[np.ndarray, "images dim"]:
        """One unit vector per image, float32."""


@runtime_checkable
class OfLimitedVocabulary(Protocol):
    """A model of texts whose tokenizer may not know every word."""

    def unknown(self, texts: Sequence[str]) -> list[bool]:
        """For each text whether it has a word that the model does not know."""


@runtime_checkable
class OfOneWorld(Protocol):
    """A model that knows images of one world only, or a data set of such images; None: of no such world."""

    world: str | None


@runtime_checkable
class TextMatcher(Protocol):
    """Tells how well texts match references, word by word."""

    name: str
    fingerprint: str

    def f1(self, texts: Sequence[str], references: Sequence[str]) -> Float[np.ndarray, " pairs"]:
        """F1 of each text against the reference at its place."""


@runtime_checkable
class Proposals(Protocol):
    """Candidate concepts from elsewhere."""

    def concepts(self, neurons: Sequence[Neuron], layers: Sequence[Layer]) -> Mapping[Neuron, Sequence[str]]:
        """The concepts of each of the neurons that has some, best first.

        Raises `UsageError` for units that the layers of the target do not have.
        """


@runtime_checkable
class Presence(Protocol):
    """Tells how far images show concepts: 0 not at all, 1 for sure. `judge` tells people who says so."""

    judge: str

    def check(self, images: ProbeSet) -> None:
        """Raises `UsageError`, before any work, for images of which it can tell nothing."""

    def key(self, images: ProbeSet) -> Key:
        """Names all that presence in these images depends on, beside the code: also what is said of them."""

    def concepts(self, images: ProbeSet) -> Sequence[str]:
        """The distinct concepts that it knows for these images."""

    def chunks(
        self, images: ProbeSet, vectors: VectorsOf, concepts: Sequence[str]
    ) -> Iterator[Float[np.ndarray, "images_of_chunk concepts"]]:
        """The presence of any concepts in all images, in order, some images at a time.

        vectors: gives the images' CLIP vectors, if they are needed.
        """


@runtime_checkable
class Scorer(Protocol):
    """Rates the candidates of one neuron; pure, and larger is always better.

    `needs`: what it looks at of the evidence that takes further work.
    """

    needs: frozenset[Need]

    def score(self, evidence: Evidence) -> Float[np.ndarray, " candidates"]:
        """One score per candidate, NaN where a candidate has no image."""


def knows(model: object, texts: Sequence[str]) -> bool:
    """Whether a model of texts knows all words of nine in ten of these texts.

    The small models of the embedded world know its words alone; what they make of other texts means nothing.
    """
    if not isinstance(model, OfLimitedVocabulary) or not texts:
        return True
    return sum(model.unknown(texts)) <= len(texts) / 10


def judged_by(model: TextEncoder | TextMatcher) -> str:
    """The name of a judge of texts beside its figures; other weights or settings have another name."""
    return f"{model.name} ({model.fingerprint[:8]})"
