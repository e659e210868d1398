"""Step 3 of the method, first half: images of every concept, and what they evoke.

A concept that several neurons share is drawn once, and its images go through the target and CLIP once, for
all layers and neurons of the run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from string import Formatter

import numpy as np
from jaxtyping import Float

from dnr_bench.errors import RunError, UsageError
from dnr_bench.parts import Generator, ImageTextEncoder, Retriever, Target, TextEncoder, TextMatcher
from dnr_bench.store import Key, Store, pixels_digest
from dnr_bench.types import Image, Rendering

#: Concepts a batch: their images pass through a model together.
_BATCH = 32
#: Images that are drawn before they are stored: drawing is slow, and a killed run loses these.
_DRAWN = 160


@dataclass(frozen=True)
class DrawingSettings:
    """How each concept is drawn: `images_per_concept` is Q, `prompt` holds the word {concept}."""

    prompt: str
    images_per_concept: int

    def __post_init__(self) -> None:
        try:
            fields = {name for _, name, _, _ in Formatter().parse(self.prompt) if name is not None}
        except ValueError as error:
            raise UsageError(f"prompt={self.prompt!r}: {error}") from error
        if fields != {"concept"}:
            raise UsageError(f"prompt={self.prompt!r} must contain {{concept}} and no other field")
        if self.images_per_concept < 1:
            raise UsageError(f"images_per_concept={self.images_per_concept} must be at least 1")


class Studio:
    """Draws concepts for a run and shows them to the target and to CLIP.

    `first`: the number of a concept's first image, for generators that retrieve images by number.
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
        images = self._drawings(unique)
        names = [pixels_digest(of_concept) for of_concept in images]
        activations = self._activations(images, names)
        embeddings = self._image_embeddings(images, names)
        texts = embed_texts(self.store, self.encoder, unique)
        return {
            concept: Rendering(concept, images[i], activations[i], embeddings[i], texts[i])
            for i, concept in enumerate(unique)
        }

    def _drawings(self, concepts: Sequence[str]) -> list[np.ndarray]:
        """The images [Q, height, width, 3] of each concept; more images extend a stored entry."""
        wanted = self.settings.images_per_concept
        prompts = [self.settings.prompt.format(concept=concept) for concept in concepts]
        # what is drawn follows the seed, what is retrieved the number
        start = {"first": self.first} if isinstance(self.generator, Retriever) else {}
        keys: list[Key] = [
            {"generator": self.generator.fingerprint, "prompt": prompt, "seed": self.seed, **start}
            for prompt in prompts
        ]

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

    def _activations(self, images: Sequence[np.ndarray], names: Sequence[str]) -> list[dict[str, np.ndarray]]:
        items = [(row, layer) for row in range(len(images)) for layer in self.layers]
        keys: list[Key] = [
            {"target": self.target.fingerprint, "images": names[row], "layer": layer} for row, layer in items
        ]

        def compute(indices: list[int]) -> Iterator[dict[str, np.ndarray]]:
            wanted = [items[i] for i in indices]
            rows = list(dict.fromkeys(row for row, _ in wanted))
            layers = list(dict.fromkeys(layer for _, layer in wanted))
            outputs = self.target.run([image for row in rows for image in images[row]], layers)
            parts = {
                layer: dict(zip(rows, _split(outputs[layer], [len(images[r]) for r in rows]), strict=True))
                for layer in layers
            }
            for row, layer in wanted:
                yield {"activations": parts[layer][row]}

        batch = _BATCH * len(self.layers)
        entries = self.store.fill("image_activations", keys, compute, batch=batch)
        result: list[dict[str, np.ndarray]] = [{} for _ in images]
        for (row, layer), entry in zip(items, entries, strict=True):
            result[row][layer] = entry["activations"]
        return result

    def _image_embeddings(self, images: Sequence[np.ndarray], names: Sequence[str]) -> list[np.ndarray]:
        keys: list[Key] = [{"encoder": self.encoder.fingerprint, "images": name} for name in names]

        def compute(indices: list[int]) -> Iterator[dict[str, np.ndarray]]:
            vectors = self.encoder.embed_images([image for i in indices for image in images[i]])
            for part in _split(vectors, [len(images[i]) for i in indices]):
                yield {"vectors": part}

        entries = self.store.fill("image_embeddings", keys, compute, batch=_BATCH)
        return [entry["vectors"] for entry in entries]


def embed_images(store: Store, encoder: ImageTextEncoder, images: Sequence[Image]) -> np.ndarray:
    """Unit vectors [images, dim] of single images (exemplars), stored one by one."""
    keys: list[Key] = [{"encoder": encoder.fingerprint, "images": pixels_digest(image)} for image in images]

    def compute(indices: list[int]) -> Iterator[dict[str, np.ndarray]]:
        for vector in encoder.embed_images([images[i] for i in indices]):
            yield {"vectors": vector}

    entries = store.fill("image_embeddings", keys, compute, batch=256)
    return np.stack([entry["vectors"] for entry in entries])


def embed_texts(store: Store, encoder: TextEncoder, texts: Sequence[str]) -> np.ndarray:
    """Unit vectors [texts, dim], stored one by one."""
    keys: list[Key] = [{"encoder": encoder.fingerprint, "text": text} for text in texts]

    def compute(indices: list[int]) -> Iterator[dict[str, np.ndarray]]:
        for vector in encoder.embed_texts([texts[i] for i in indices]):
            yield {"vectors": vector}

    entries = store.fill("text_embeddings", keys, compute, batch=256)
    return np.stack([entry["vectors"] for entry in entries])


def match_texts(
    store: Store, matcher: TextMatcher, texts: Sequence[str], references: Sequence[str]
) -> Float[np.ndarray, " pairs"]:
    """F1 of each text against the reference at its place, stored pair by pair."""
    keys: list[Key] = [
        {"matcher": matcher.fingerprint, "text": text, "reference": reference}
        for text, reference in zip(texts, references, strict=True)
    ]

    def compute(indices: list[int]) -> list[float]:
        found = matcher.f1([texts[i] for i in indices], [references[i] for i in indices])
        return [float(value) for value in found]

    return np.asarray(store.fill("text_matches", keys, compute, batch=1024), float)


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
