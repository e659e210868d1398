"""No generator at all: the images of a data set that CLIP and their captions find nearest to a concept."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int
from PIL import Image as PILImage
from PIL import ImageOps

from dnr_bench.data.images import Image, ProbeSet
from dnr_bench.infra.digests import digest, fingerprint_of
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.on_demand import OnDemand
from dnr_bench.infra.ranges import check_range
from dnr_bench.infra.store import Store
from dnr_bench.protocols import ImageTextEncoder, Probe, knows
from dnr_bench.stages.caption_contrast import CaptionContrast
from dnr_bench.stages.embeddings import embed_texts, probe_embeddings

_CHUNK = 8192
_CONCEPT = "{concept}"


class RetrievalGenerator:
    """The n-th image of a concept is the n-th nearest of `images`.

    Near is what CLIP says of pixels and text, and where images have captions (or names of classes) what these
    say of the concept, each in standard deviations over the set. CLIP is left out if it does not know the
    words of the captions. Seeds change nothing but which images a data set's subset has.

    Args:
        images: the data set; it must share no image with the probing set, whose images explain neurons.
        encoder: CLIP.
        contrast: tells how far captions say a concept.
        prompt: of CLIP, with the word {concept}.
        size: images are cut to squares of so many pixels.
        seed: of the data set's subset.
        store: keeps the vectors of the images.
    """

    def __init__(
        self,
        images: Probe,
        encoder: ImageTextEncoder,
        contrast: CaptionContrast,
        prompt: str,
        size: int,
        seed: int,
        store: Store,
    ) -> None:
        check_range(8, 8192, size=size)
        self.encoder, self.contrast, self.prompt = encoder, contrast, prompt
        self.size, self.store = size, store
        self._set = OnDemand(lambda: images.load(seed))

    @property
    def set(self) -> ProbeSet:
        """The data set, which is read when somebody asks for it."""
        return self._set()

    @cached_property
    def ids(self) -> frozenset[str]:
        """The ids of all of its images."""
        return frozenset(self.set.ids)

    @cached_property
    def by_clip(self) -> bool:
        """Whether CLIP has a say: it knows the words of the captions, or there are none."""
        return self.set.words is None or knows(self.encoder, self.set.words)

    @cached_property
    def fingerprint(self) -> str:
        """Names what is retrieved: the images with their captions, and all that finds them."""
        return fingerprint_of(
            "retrieval",
            {
                "images": self.set.digest,
                "words": digest({"words": list(self.set.words or ())}),
                "encoder": self.encoder.fingerprint,
                "contrast": self.contrast.fingerprint,
                "prompt": self.prompt,
                "size": self.size,
            },
        )

    def generate(
        self, prompts: Sequence[str], seeds: Sequence[int], numbers: Sequence[int] | None = None
    ) -> list[Image]:
        """The image of each concept with its number; without numbers the nearest one."""
        wanted = list(numbers) if numbers is not None else [0] * len(prompts)
        if not wanted:
            return []
        n = max(wanted) + 1
        if n > len(self.set.ids):
            raise UsageError(
                f"generator=retrieval: {n} images of a concept are asked for (new ones for evaluators among"
                f" them), and {self.set.name} has {len(self.set.ids)}; lower images_per_concept"
            )
        distinct = list(dict.fromkeys(prompts))
        order = dict(zip(distinct, self._order(distinct, self._said(distinct)), strict=True))
        return [self._cut(int(order[p][number])) for p, number in zip(prompts, wanted, strict=True)]

    def fit(
        self, concepts: Sequence[str], numbers: Sequence[int]
    ) -> Float[np.ndarray, "concepts images"] | None:
        """How far the captions of the images with these numbers say each concept; None without captions."""
        said = self._said(concepts)
        if said is None:
            return None
        order = self._order(concepts, said)[:, list(numbers)]
        found: np.ndarray = np.take_along_axis(said, order, axis=1)
        return found

    def _order(
        self, concepts: Sequence[str], said: Float[np.ndarray, "concepts images"] | None
    ) -> Int[np.ndarray, "concepts images"]:
        """For each concept the numbers of all images, nearest first; `said`: how far captions say it."""
        scores = np.zeros((len(concepts), len(self.set.ids)))
        if self.by_clip:
            scores += _standard(self._cosines(concepts))
        if said is not None:
            scores += _standard(said)
        return np.argsort(-scores, axis=1, kind="stable")

    def _cosines(self, concepts: Sequence[str]) -> Float[np.ndarray, "concepts images"]:
        texts = embed_texts(
            self.store, self.encoder, [self.prompt.replace(_CONCEPT, concept) for concept in concepts]
        )
        parts = [texts @ self._vectors[i : i + _CHUNK].T for i in range(0, len(self._vectors), _CHUNK)]
        return np.concatenate(parts, axis=1)

    def _said(self, concepts: Sequence[str]) -> Float[np.ndarray, "concepts images"] | None:
        """How far each caption says each concept: 1 in its very words, 0 as far as any caption does."""
        return None if self.set.words is None else self.contrast.said(concepts, self.set.words)

    @cached_property
    def _vectors(self) -> Float[np.ndarray, "images dim"]:
        dim = self.encoder.embed_texts(["one"]).shape[1]
        return probe_embeddings(self.store, self.encoder, self.set, dim=dim)

    def _cut(self, number: int) -> Image:
        picture = PILImage.fromarray(self.set.images[number])
        return np.asarray(ImageOps.fit(picture, (self.size, self.size), PILImage.Resampling.BICUBIC))


def _standard(values: Float[np.ndarray, "concepts images"]) -> Float[np.ndarray, "concepts images"]:
    """Each row in standard deviations from its mean."""
    centered = values - values.mean(axis=1, keepdims=True)
    found: np.ndarray = centered / np.maximum(values.std(axis=1, keepdims=True), 1e-9)
    return found
