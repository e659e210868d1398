"""The protocols: what each replaceable part of a run must offer.

A `fingerprint` names everything that a part's results depend on (weights, preprocessing, settings,
versions that matter); it is part of the keys under which results are stored.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from dnr_bench.store import StageCount
from dnr_bench.types import (
    Activations,
    Answer,
    Evidence,
    Explanation,
    Image,
    Layer,
    Neuron,
    ProbeSet,
    Pruning,
    Question,
    Rendering,
    Scorecard,
    Table,
    Usage,
    View,
)


@runtime_checkable
class Target(Protocol):
    """The network whose neurons are described."""

    fingerprint: str

    def layers(self) -> Sequence[Layer]:
        """Every layer that can be described."""

    def run(
        self, images: Sequence[Image], layers: Sequence[str], pruned: Pruning | None = None
    ) -> dict[str, Float[np.ndarray, "images _"]]:
        """Pooled activations of whole layers, with some units set to 0; images may be of any size."""

    def maps(
        self, images: Sequence[Image], layer: str, pairs: Sequence[tuple[int, int]]
    ) -> list[Float[np.ndarray, "map_height map_width"]]:
        """The activation map of each (image index, unit) of a spatial layer."""

    def seen_box(self, height: int, width: int) -> tuple[float, float, float, float]:
        """The part of an image of this size that reaches the network: left, top, right, bottom."""

    def unit_names(self, layer: str) -> Sequence[str] | None:
        """The true names of a layer's units, where they are known (classes of the last layer)."""


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

    def caption(self, views: Sequence[View]) -> list[str]:
        """One caption a view, in order."""


@runtime_checkable
class Summarizer(Protocol):
    """Turns a neuron's captions into candidate concepts."""

    fingerprint: str

    def summarize(self, captions: Sequence[Sequence[str]], n: int, seed: int) -> list[list[str]]:
        """For each neuron's captions at most `n` distinct concepts, the most fitting first."""


@runtime_checkable
class Proposer(Protocol):
    """Goes from a neuron's exemplars straight to candidate concepts, in place of captioner and summariser."""

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
    ) -> list[Image]:
        """One image for each prompt and its seed; the same pair gives the same image in any batch.

        `numbers`: the how manieth image of its prompt each one is, for those that retrieve and do not draw.
        """


@runtime_checkable
class Retriever(Generator, Protocol):
    """A generator whose images are those of a data set; `ids` are those of all of them."""

    ids: frozenset[str]


@runtime_checkable
class TextEncoder(Protocol):
    """Turns texts into unit vectors; `name` tells people which model it is, without its folder."""

    name: str
    fingerprint: str

    def embed_texts(self, texts: Sequence[str]) -> Float[np.ndarray, "texts dim"]:
        """One unit vector a text, float32."""


@runtime_checkable
class ImageTextEncoder(TextEncoder, Protocol):
    """Turns images and texts into unit vectors of one space."""

    def embed_images(self, images: Sequence[Image]) -> Float[np.ndarray, "images dim"]:
        """One unit vector an image, float32."""


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

    def read(self) -> Mapping[Neuron, Sequence[str]]:
        """The concepts of each neuron that has some, best first."""


@runtime_checkable
class Scorer(Protocol):
    """Rates the candidates of one neuron; pure, and larger is always better.

    `needs_probe`: whether it looks at `Evidence.probe_correlation`, which takes a pass of CLIP over the
    probing set.
    """

    needs_probe: bool

    def score(self, evidence: Evidence) -> Float[np.ndarray, " candidates"]:
        """One score a candidate, NaN where a candidate has no image."""


@runtime_checkable
class TextEmbedder(Protocol):
    """Turns texts into vectors, from what is stored."""

    def __call__(self, texts: Sequence[str], encoder: TextEncoder | None = None) -> np.ndarray:
        """Unit vectors [texts, dim]; of the run's CLIP unless another encoder is given."""


@runtime_checkable
class PoolScorer(Protocol):
    """Scores any concepts for neurons with the run's generator, target and scoring function."""

    def __call__(self, pools: Mapping[Neuron, Sequence[str]]) -> dict[Neuron, Float[np.ndarray, " _"]]:
        """The score of each concept of each neuron's pool."""


@runtime_checkable
class HeldOut(Protocol):
    """What images evoke that explain no neuron of the run.

    Raises `UsageError` for a set that has an image in common with the probing set. `drawn_by` names the
    generator of new images.
    """

    @property
    def drawn_by(self) -> str:
        """The generator's name with its fingerprint."""

    def activations(self, images: ProbeSet) -> dict[str, Activations]:
        """Of all layers of the run, in one pass."""

    def pruned(self, images: ProbeSet, layer: str, prunings: Sequence[Pruning]) -> list[Activations]:
        """Of any one layer of the target, once for each pruning, in one pass."""

    def cosines(
        self, images: ProbeSet, texts: Sequence[str]
    ) -> Iterator[Float[np.ndarray, "images_of_chunk texts"]]:
        """CLIP cosines of all images with each text, in chunks of images."""

    def draw(self, concepts: Sequence[str]) -> dict[str, Rendering]:
        """Newly drawn images of each concept, which no label of this run was chosen by."""


def judged_by(model: TextEncoder | TextMatcher) -> str:
    """What a judge of texts is called where its figures stand: no other weights or settings are called so."""
    return f"{model.name} ({model.fingerprint[:8]})"


@dataclass(frozen=True)
class EvaluationContext:
    """A run's explanations and what is needed to judge them.

    `encoder` is the run's CLIP; `embed_texts` and `match_texts` compute only what is not stored.
    `score_pools` scores any concepts for neurons, and `score_pools_anew` does so on newly drawn images,
    which no label was chosen by; None where the scoring function looks at the probing set, too.
    `activations` are those of a layer on the probing set, `held_out` tells of other images;
    `exemplar_vectors` is the mean CLIP vector of each neuron's exemplars, whose product with a text's
    vector is CLIP(n) of DnR; dead neurons have none. `stages`: what describing took, `usage` what each part
    asked of a chat model. `truth`: what is known of neurons, but for those that are known to detect
    nothing.
    """

    explanations: Sequence[Explanation]
    target: Target
    encoder: ImageTextEncoder
    seed: int
    embed_texts: TextEmbedder
    match_texts: Callable[[TextMatcher, Sequence[str], Sequence[str]], np.ndarray]
    score_pools: PoolScorer
    score_pools_anew: PoolScorer | None
    activations: Callable[[str], Activations]
    exemplar_vectors: Callable[[Sequence[Neuron]], dict[Neuron, Float[np.ndarray, " _"]]]
    held_out: HeldOut
    stages: Mapping[str, StageCount]
    usage: Mapping[str, Usage]
    truth: Mapping[Neuron, str] = field(default_factory=dict)


@runtime_checkable
class Evaluator(Protocol):
    """Judges a run's labels; derive from it to take over what need not be said."""

    def check(self, neurons: Sequence[Neuron], target: Target) -> None:
        """Raises `UsageError`, before any work, for what cannot be evaluated on these neurons."""

    def truth(self, context: EvaluationContext) -> Mapping[Neuron, str | None]:
        """What is known of neurons, None for those that detect nothing; empty where nothing is known."""
        return {}

    @abstractmethod
    def evaluate(self, context: EvaluationContext) -> Sequence[Scorecard | Table]:
        """The evaluator's metrics and tables; none where none of the run's neurons can be evaluated."""
