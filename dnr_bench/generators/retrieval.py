"""No generator at all: the images of a data set that CLIP finds nearest to a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Float
from PIL import Image as PILImage
from PIL import ImageOps

from dnr_bench.data.images import Image, ProbeSet
from dnr_bench.infra.digests import fingerprint_of
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.ranges import check_range
from dnr_bench.infra.store import Store
from dnr_bench.protocols import ImageTextEncoder, Probe
from dnr_bench.stages.embeddings import probe_embeddings

_CHUNK = 8192


class RetrievalGenerator:
    """The n-th image of a prompt is the one of `images` whose CLIP vector is the n-th nearest to its text.

    Seeds change nothing but which images a data set's subset has. Images are cut to squares of `size` pixels.
    The data set must share no image with the probing set, whose images explain neurons.
    """

    def __init__(self, images: Probe, encoder: ImageTextEncoder, size: int, seed: int, store: Store) -> None:
        check_range(8, 8192, size=size)
        self.encoder, self.size, self.store = encoder, size, store
        self.set: ProbeSet = images.load(seed)
        self.ids = frozenset(self.set.ids)
        self.fingerprint = fingerprint_of(
            "retrieval", {"images": self.set.digest, "encoder": encoder.fingerprint, "size": size}
        )

    def generate(
        self, prompts: Sequence[str], seeds: Sequence[int], numbers: Sequence[int] | None = None
    ) -> list[Image]:
        """The image of each prompt with its number; without numbers the nearest one."""
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
        nearest = dict(zip(distinct, self._nearest(distinct, n), strict=True))
        return [self._cut(int(nearest[p][number])) for p, number in zip(prompts, wanted, strict=True)]

    def _nearest(self, prompts: Sequence[str], n: int) -> list[np.ndarray]:
        """For each prompt the numbers of its `n` nearest images, nearest first."""
        texts = self.encoder.embed_texts(prompts)
        cosines = np.concatenate(
            [self._vectors[i : i + _CHUNK] @ texts.T for i in range(0, len(self._vectors), _CHUNK)]
        )
        return [np.argsort(-column, kind="stable")[:n] for column in cosines.T]

    @cached_property
    def _vectors(self) -> Float[np.ndarray, "images dim"]:
        dim = self.encoder.embed_texts(["one"]).shape[1]
        return probe_embeddings(self.store, self.encoder, self.set, dim=dim)

    def _cut(self, number: int) -> Image:
        picture = PILImage.fromarray(self.set.images[number])
        return np.asarray(ImageOps.fit(picture, (self.size, self.size), PILImage.Resampling.BICUBIC))
