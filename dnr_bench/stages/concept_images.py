"""Step 3 of the method, first half: images of every concept, and what they evoke.

A concept that several neurons share is drawn once, and its images go through the target and CLIP once, for
all layers and neurons of the run. Images are drawn, shown to the models, stored and let go in chunks; what
is handed on are activations and vectors. Whoever wants pixels asks for those of a concept.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import UInt8

from dnr_bench.data.evidence import Rendering
from dnr_bench.data.images import Image
from dnr_bench.infra.batches import in_threads
from dnr_bench.infra.digests import Key, digest, pixels_digest
from dnr_bench.infra.errors import RunError, UsageError
from dnr_bench.infra.memory import give_back
from dnr_bench.infra.ranges import check_range
from dnr_bench.infra.source import code_of
from dnr_bench.infra.store import Store
from dnr_bench.infra.work import Work
from dnr_bench.protocols import Generator, ImageTextEncoder, Retriever, Target
from dnr_bench.stages.embeddings import embed_texts
from dnr_bench.stages.thumbnails import stored_strip

_log = logging.getLogger(__name__)
_FIELD = "{concept}"

#: Images that are in memory at a time: drawn, and shown to the target and CLIP together.
_TOGETHER = 160
#: Of PNG's levels the one that is nearly as small as the smallest and takes a third of the time.
_PNG_LEVEL = 3


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
        self._retrieves = isinstance(generator, Retriever)

    @cached_property
    def _codes(self) -> list[str]:
        """Of generator, target and encoder what their results depend on: the fingerprint and the code."""
        parts = (self.generator, self.target, self.encoder)
        return [f"{part.fingerprint} {code_of(__name__, part)}" for part in parts]

    def render(self, concepts: Sequence[str], seeds_of: Sequence[str] | None = None) -> Iterator[Rendering]:
        """Each distinct concept with what its images evoke, a chunk at a time.

        seeds_of: for each concept the one whose seeds its images are drawn with, by default itself; then each
        distinct pair of both is rendered. Images that are retrieved have no seeds.
        """
        unique = list(dict.fromkeys(zip(concepts, seeds_of or concepts, strict=True)))
        size = self._batch * self.store.executor.width
        for start in range(0, len(unique), size):
            yield from self._rendered(unique[start : start + size])
            give_back()

    def drawn(self, concept: str) -> Drawn:
        """The images of one concept; pixels that are not kept are drawn again from their seeds."""
        (found,) = self._drawn([(concept, concept)])
        return found

    def _rendered(self, wanted: Sequence[tuple[str, str]]) -> list[Rendering]:
        drawn, concepts = self._drawn(wanted), [concept for concept, _ in wanted]
        if self._retrieves:  # several concepts have images in common: each goes once
            activations, embeddings = self._of_single_images([of_one.singles for of_one in drawn])
        else:
            activations, embeddings = self._activations(drawn), self._embeddings(drawn)
        texts, fit = embed_texts(self.store, self.encoder, concepts), self._fit(concepts)
        return [
            Rendering(concept, activations[i], embeddings[i], texts[i], None if fit is None else fit[i])
            for i, concept in enumerate(concepts)
        ]

    def _fit(self, concepts: Sequence[str]) -> np.ndarray | None:
        if not isinstance(self.generator, Retriever):
            return None
        numbers = range(self.first, self.first + self.settings.images_per_concept)
        return self.generator.fit(concepts, numbers)

    def _drawn(self, concepts: Sequence[tuple[str, str]]) -> list[Drawn]:
        """The images of each concept, with the seeds of another one, by name; more images extend an entry."""
        wanted = self.settings.images_per_concept
        prompts = [_Prompt(*map(self._prompt, pair)) for pair in concepts]
        # what is drawn follows the seed, what is retrieved the number
        start = {"first": self.first} if self._retrieves else {}
        settings = {"generator": self._codes[0], "seed": self.seed, **start}
        keys: list[Key] = [{**settings, **prompt.key} for prompt in prompts]
        now: dict[int, np.ndarray] = {}

        def request(row: int, have: int) -> _Request:
            return self._request(prompts[row], have)

        def finish(row: int, have: int, images: np.ndarray) -> np.ndarray:
            if have == 0:
                now[row] = images
            names = np.stack([_name(image) for image in images])
            if self.store.images == "thumbnails" and not have:
                stored_strip(self.store, _spelled(names), images.view)
            self._keep(keys[row], images, have)
            return names

        work = Work("generator", self.generator, _draw)
        entries = self.store.extend("images", keys, "names", wanted, work, request, finish, self._batch)
        return [
            Drawn(self, prompts[row], keys[row], _spelled(entry["names"][:wanted]), now.get(row))
            for row, entry in enumerate(entries)
        ]

    def _prompt(self, concept: str) -> str:
        return concept if self._retrieves else self.settings.prompt.replace(_FIELD, concept)

    def _request(self, prompt: _Prompt, first: int) -> _Request:
        """The images of a prompt from number `first` on."""
        numbers = range(first, self.settings.images_per_concept)
        seeds = [image_seed(self.seed, prompt.seeds_of, number) for number in numbers]
        return _Request(prompt.text, seeds, [self.first + number for number in numbers])

    @property
    def _batch(self) -> int:
        """Concepts whose images are drawn and looked at together."""
        return max(_TOGETHER // self.settings.images_per_concept, 1)

    def _keep(self, key: Key, images: UInt8[np.ndarray, "images height width 3"], first: int) -> None:
        """Store the pixels of images from number `first` on, where pixels are kept."""
        if self.store.images != "all" or self._retrieves:
            return
        before = self.store.read("pixels", key) or {}
        new = {str(first + number): png for number, png in enumerate(in_threads(_as_png, list(images)))}
        self.store.write("pixels", key, {**before, **new})

    def read(self, drawn: Drawn) -> UInt8[np.ndarray, "images height width 3"]:
        """The pixels of images that are named: from the store, else drawn again."""
        wanted = self.settings.images_per_concept
        kept = self.store.read("pixels", drawn.key) or {}
        found = [kept.get(str(number)) for number in range(wanted)]
        known = [png for png in found if png is not None]
        if len(known) == wanted:
            return _stacked([_decoded(png) for png in known])
        (images,) = _draw(self.generator, [self._request(drawn.prompt, 0)])
        if [_name(image).tobytes().hex() for image in images] != list(drawn.names):
            _log.warning("images of %r came out otherwise than before: they are not kept", drawn.prompt.text)
        else:
            self._keep(drawn.key, images, 0)
        return images

    def _of_single_images(
        self, groups: Sequence[Sequence[_Images]]
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

    def _activations(self, shown: Sequence[_Images]) -> list[dict[str, np.ndarray]]:
        """Of each concept's images all layers, from one pass of the target over the chunk."""
        settings = {"target": self._codes[1]}
        found = self.store.fill_groups(
            "image_activations",
            [[(of_concept, layer) for layer in self.layers] for of_concept in shown],
            lambda item: {**settings, "images": item[0].name, "layer": item[1]},
            Work("target", self.target, _activate),
            batch=self._together(shown) * len(self.layers),
            item=lambda item: (item[0].name, item[0].pixels, item[1]),
        )
        return [
            {layer: entry["activations"] for layer, entry in zip(self.layers, of_concept, strict=True)}
            for of_concept in found
        ]

    def _embeddings(self, shown: Sequence[_Images]) -> list[np.ndarray]:
        settings = {"encoder": self._codes[2]}
        (found,) = self.store.fill_groups(
            "image_embeddings",
            [shown],
            lambda concept: {**settings, "images": concept.name},
            Work("encoder", self.encoder, _embed),
            batch=self._together(shown),
            item=lambda concept: concept.pixels,
        )
        return [entry["vectors"] for entry in found]

    def _together(self, shown: Sequence[_Images]) -> int:
        """So many of what is shown are looked at together: concepts, or single images."""
        return _TOGETHER if shown and isinstance(shown[0], _Single) else self._batch


@runtime_checkable
class _Images(Protocol):
    """Images that models are shown, and the name of their content."""

    @property
    def name(self) -> str: ...

    @property
    def pixels(self) -> UInt8[np.ndarray, "images height width 3"]: ...


class Drawn:
    """The images of one concept; pixels are kept as long as somebody holds on to this."""

    def __init__(
        self,
        images: ConceptImages,
        prompt: _Prompt,
        key: Key,
        names: Sequence[str],
        pixels: UInt8[np.ndarray, "images height width 3"] | None,
    ) -> None:
        self.images, self.prompt, self.key, self.names = images, prompt, key, names
        self._pixels = pixels

    @property
    def name(self) -> str:
        """Names the content of all images together."""
        return digest({"images": list(self.names)})

    @property
    def pixels(self) -> UInt8[np.ndarray, "images height width 3"]:
        """The images themselves."""
        if self._pixels is None:
            self._pixels = self.images.read(self)
        return self._pixels

    @property
    def singles(self) -> list[_Images]:
        """Each image by itself."""
        return [_Single(self, number) for number in range(len(self.names))]


@dataclass(frozen=True, eq=False)
class _Single:
    """One image of a concept."""

    drawn: Drawn
    number: int

    @property
    def name(self) -> str:
        return self.drawn.names[self.number]

    @property
    def pixels(self) -> UInt8[np.ndarray, "1 height width 3"]:
        return self.drawn.pixels[self.number : self.number + 1]


@dataclass(frozen=True)
class _Prompt:
    """What is drawn, and the prompt whose seeds it is drawn with."""

    text: str
    seeds_of: str

    @property
    def key(self) -> dict[str, str]:
        others = {} if self.seeds_of == self.text else {"seeds_of": self.seeds_of}
        return {"prompt": self.text, **others}


@dataclass(frozen=True)
class _Request:
    """Images to be drawn of one prompt: the seed and the number of each."""

    prompt: str
    seeds: Sequence[int]
    numbers: Sequence[int]


def _draw(generator: Generator, requests: Sequence[_Request]) -> Iterator[np.ndarray]:
    """The images [images, height, width, 3] of each request; all share the generator's batches."""
    prompts = [request.prompt for request in requests for _ in request.seeds]
    seeds = [seed for request in requests for seed in request.seeds]
    numbers = [number for request in requests for number in request.numbers]
    taken = iter(generator.generate(prompts, seeds, numbers))
    for request in requests:
        yield _stacked([next(taken) for _ in request.seeds])


def _activate(
    target: Target, wanted: Sequence[tuple[str, np.ndarray, str]]
) -> Iterator[dict[str, np.ndarray]]:
    """Of each (name of images, their pixels, layer) what they evoke there, from one pass for all."""
    images = {name: pixels for name, pixels, _ in wanted}
    layers = list(dict.fromkeys(layer for _, _, layer in wanted))
    outputs = target.run([image for of_one in images.values() for image in of_one], layers)
    lengths = [len(of_one) for of_one in images.values()]
    parts = {layer: dict(zip(images, _split(outputs[layer], lengths), strict=True)) for layer in layers}
    return ({"activations": parts[layer][name]} for name, _, layer in wanted)


def _embed(encoder: ImageTextEncoder, shown: Sequence[np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    """The vectors of the images of each concept, from one pass for all."""
    vectors = encoder.embed_images([image for of_one in shown for image in of_one])
    return ({"vectors": part} for part in _split(vectors, [len(of_one) for of_one in shown]))


def image_seed(seed: int, prompt: str, index: int) -> int:
    """The seed of one image, which depends on nothing else that is drawn."""
    return int.from_bytes(sha256(f"{seed}|{index}|{prompt}".encode()).digest()[:7], "big")


def _name(image: Image) -> UInt8[np.ndarray, " 32"]:
    return np.frombuffer(bytes.fromhex(pixels_digest(image)), np.uint8)


def _spelled(names: UInt8[np.ndarray, "images 32"]) -> list[str]:
    return [bytes(name).hex() for name in names]


def _as_png(image: Image) -> UInt8[np.ndarray, " bytes"]:
    """The image without loss, at a fraction of its size."""
    done, encoded = cv2.imencode(".png", image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, _PNG_LEVEL])
    if not done:
        raise RunError("OpenCV cannot write PNG")
    return np.asarray(encoded).reshape(-1)


def _decoded(png: UInt8[np.ndarray, " bytes"]) -> Image:
    found = cv2.imdecode(png, cv2.IMREAD_COLOR)
    if found is None:
        raise RunError("the store holds an image that OpenCV cannot read")
    return np.ascontiguousarray(found[..., ::-1])


def _stacked(images: Sequence[Image]) -> UInt8[np.ndarray, "images height width 3"]:
    if len({image.shape for image in images}) > 1:
        raise RunError("the generator gave images of different sizes for one concept")
    return np.stack(images)


def _split(rows: np.ndarray, lengths: Sequence[int]) -> list[np.ndarray]:
    """The rows cut into consecutive parts of these lengths."""
    return [np.ascontiguousarray(part) for part in np.split(rows, np.cumsum(lengths)[:-1])]
