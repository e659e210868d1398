"""Step 3 of the method, first half: images of every concept, and what they evoke.

A concept that several neurons share is drawn once, and its images go through the target and CLIP once, for
all layers and neurons of the run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from dnr_bench.data.evidence import Rendering
from dnr_bench.data.images import Image
from dnr_bench.infra.digests import Key, pixels_digest
from dnr_bench.infra.errors import RunError, UsageError
from dnr_bench.infra.ranges import check_range
from dnr_bench.infra.source import code_of
from dnr_bench.infra.store import Store
from dnr_bench.protocols import Generator, ImageTextEncoder, Retriever, Target
from dnr_bench.stages.embeddings import embed_texts

_FIELD = "{concept}"

#: Concepts per batch: their images pass through a model together.
_BATCH = 32


#: Images that are drawn before they are stored: drawing is slow, and a killed run loses these.
_DRAWN = 160


@dataclass(frozen=True)
class DrawingSettings:
    """How each concept is drawn: `images_per_concept` is Q, `prompt` holds the word {concept}.

    min_fit: an image shows its concept if it fits at least this well: 1 is as well as the probing images that
    fit best, 0 as well as any.
    """

    prompt: str
    images_per_concept: int
    min_fit: float

    def __post_init__(self) -> None:
        if _FIELD not in self.prompt or set("{}") & set(self.prompt.replace(_FIELD, "")):
            raise UsageError(f"prompt={self.prompt!r} must contain {{concept}} and no other braces")
        check_range(1, 10_000, images_per_concept=self.images_per_concept)
        check_range(-1, 1, min_fit=self.min_fit)


class ConceptImages:
    """Draws concepts for a run and shows them to the target and to CLIP.

    seed: of the images. first: the number of a concept's first image, for generators that retrieve images by
    number. layers: those of the target whose activations are kept.
    """

    def __init__(
        self,
        store: Store,
        generator: Generator,
        target: Target,
        encoder: ImageTextEncoder,
        layers: Sequence[str],
        settings: DrawingSettings,
        seed: int,
        first: int = 0,
    ) -> None:
        self.store, self.generator, self.target, self.encoder = store, generator, target, encoder
        self.layers, self.settings = tuple(layers), settings
        self.seed, self.first = seed, first

    def render(self, concepts: Sequence[str]) -> dict[str, Rendering]:
        """Each distinct concept with its images, their activations and embeddings."""
        unique = list(dict.fromkeys(concepts))
        if not unique:
            return {}
        images = self._drawn(unique)
        if isinstance(self.generator, Retriever):  # several concepts have images in common: each goes once
            single = [[_Shown(image[None], pixels_digest(image)) for image in found] for found in images]
            activations, embeddings = self._of_single_images(single)
        else:
            shown = [_Shown(of_concept, pixels_digest(of_concept)) for of_concept in images]
            activations, embeddings = self._activations(shown), self._embeddings(shown)
        texts = embed_texts(self.store, self.encoder, unique)
        fit = self._fit(unique)
        return {
            concept: Rendering(
                concept, images[i], activations[i], embeddings[i], texts[i], None if fit is None else fit[i]
            )
            for i, concept in enumerate(unique)
        }

    def _fit(self, concepts: Sequence[str]) -> np.ndarray | None:
        if not isinstance(self.generator, Retriever):
            return None
        numbers = range(self.first, self.first + self.settings.images_per_concept)
        return self.generator.fit(concepts, numbers)

    def _drawn(self, concepts: Sequence[str]) -> list[np.ndarray]:
        """The images [Q, height, width, 3] of each concept; more images extend a stored entry."""
        wanted = self.settings.images_per_concept
        retrieved = isinstance(self.generator, Retriever)
        prompts = [c if retrieved else self.settings.prompt.replace(_FIELD, c) for c in concepts]
        # what is drawn follows the seed, what is retrieved the number
        start = {"first": self.first} if retrieved else {}
        code = code_of(__name__, self.generator)
        settings = {"code": code, "generator": self.generator.fingerprint, "seed": self.seed, **start}
        keys: list[Key] = [{**settings, "prompt": prompt} for prompt in prompts]

        def compute(indices: list[int], have: list[int]) -> Iterator[dict[str, np.ndarray]]:
            requests = [
                (row, image) for row, n in zip(indices, have, strict=True) for image in range(n, wanted)
            ]
            drawn = self.generator.generate(
                [prompts[row] for row, _ in requests],
                [image_seed(self.seed, prompts[row], image) for row, image in requests],
                [self.first + image for _, image in requests],
            )
            taken = iter(drawn)
            for n in have:
                yield {"images": _stacked([next(taken) for _ in range(n, wanted)])}

        entries = self.store.extend("images", keys, "images", wanted, compute, batch=max(_DRAWN // wanted, 1))
        return [entry["images"][:wanted] for entry in entries]

    def _of_single_images(
        self, groups: Sequence[Sequence[_Shown]]
    ) -> tuple[list[dict[str, np.ndarray]], list[np.ndarray]]:
        """Activations and embeddings of each group, every distinct image passing through the models once."""
        distinct = {image.name: image for group in groups for image in group}
        activations = dict(zip(distinct, self._activations(list(distinct.values())), strict=True))
        embeddings = dict(zip(distinct, self._embeddings(list(distinct.values())), strict=True))
        return (
            [
                {
                    layer: np.concatenate([activations[image.name][layer] for image in group])
                    for layer in self.layers
                }
                for group in groups
            ],
            [np.concatenate([embeddings[image.name] for image in group]) for group in groups],
        )

    def _activations(self, shown: Sequence[_Shown]) -> list[dict[str, np.ndarray]]:
        """Of each concept's images all layers, from one pass of the target per batch of concepts."""
        settings = {"code": code_of(__name__, self.target), "target": self.target.fingerprint}

        def compute(wanted: list[tuple[_Shown, str]]) -> Iterator[dict[str, np.ndarray]]:
            concepts = list(dict.fromkeys(of_concept for of_concept, _ in wanted))
            layers = list(dict.fromkeys(layer for _, layer in wanted))
            outputs = self.target.run([image for concept in concepts for image in concept.images], layers)
            lengths = [len(concept.images) for concept in concepts]
            parts = {
                layer: dict(zip(concepts, _split(outputs[layer], lengths), strict=True)) for layer in layers
            }
            return ({"activations": parts[layer][concept]} for concept, layer in wanted)

        found = self.store.fill_groups(
            "image_activations",
            [[(of_concept, layer) for layer in self.layers] for of_concept in shown],
            lambda item: {**settings, "images": item[0].name, "layer": item[1]},
            compute,
            batch=_BATCH * len(self.layers),
        )
        return [
            {layer: entry["activations"] for layer, entry in zip(self.layers, of_concept, strict=True)}
            for of_concept in found
        ]

    def _embeddings(self, shown: Sequence[_Shown]) -> list[np.ndarray]:
        settings = {"code": code_of(__name__, self.encoder), "encoder": self.encoder.fingerprint}

        def compute(concepts: list[_Shown]) -> Iterator[dict[str, np.ndarray]]:
            vectors = self.encoder.embed_images([image for concept in concepts for image in concept.images])
            return ({"vectors": part} for part in _split(vectors, [len(c.images) for c in concepts]))

        (found,) = self.store.fill_groups(
            "image_embeddings",
            [shown],
            lambda concept: {**settings, "images": concept.name},
            compute,
            batch=_BATCH,
        )
        return [entry["vectors"] for entry in found]


@dataclass(frozen=True, eq=False)
class _Shown:
    """The images of one concept, and the name of their content."""

    images: np.ndarray
    name: str


def image_seed(seed: int, prompt: str, index: int) -> int:
    """The seed of one image, which depends on nothing else that is drawn."""
    return int.from_bytes(sha256(f"{seed}|{index}|{prompt}".encode()).digest()[:7], "big")


def _stacked(images: Sequence[Image]) -> np.ndarray:
    if len({image.shape for image in images}) > 1:
        raise RunError("the generator gave images of different sizes for one concept")
    return np.stack(images)


def _split(rows: np.ndarray, lengths: Sequence[int]) -> list[np.ndarray]:
    """The rows cut into consecutive parts of these lengths."""
    return [np.ascontiguousarray(part) for part in np.split(rows, np.cumsum(lengths)[:-1])]
