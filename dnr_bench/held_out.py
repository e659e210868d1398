"""Images that explain no neuron: what they evoke in the target and in CLIP, for evaluators."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from dnr_bench.activations import probe_activations, pruned_activations
from dnr_bench.correlations import probe_embeddings
from dnr_bench.errors import UsageError
from dnr_bench.parts import ImageTextEncoder, Target
from dnr_bench.renderings import Studio, embed_texts
from dnr_bench.store import Store
from dnr_bench.types import Activations, Layer, ProbeSet, Pruning, Rendering

_CHUNK = 8192


@dataclass(frozen=True)
class HeldOutImages:
    """`explaining` are the ids of images that explain or choose labels; `studio` draws new ones."""

    store: Store
    target: Target
    encoder: ImageTextEncoder
    studio: Studio
    layers: Sequence[Layer]
    explaining: Set[str]

    @property
    def drawn_by(self) -> str:
        """The class of the generator with its fingerprint."""
        generator = self.studio.generator
        return f"{type(generator).__name__} ({generator.fingerprint[:8]})"

    def activations(self, images: ProbeSet) -> dict[str, Activations]:
        """The pooled activations of all layers of the run."""
        return probe_activations(self.store, self.target, self._others(images), self.layers)

    def pruned(self, images: ProbeSet, layer: str, prunings: Sequence[Pruning]) -> list[Activations]:
        """The pooled activations of any layer of the target, once for each pruning."""
        known = {found.name: found for found in self.target.layers()}
        if layer not in known:
            raise UsageError(f"the target has no layer {layer!r}; it has {', '.join(known)}")
        return pruned_activations(self.store, self.target, self._others(images), known[layer], prunings)

    def cosines(
        self, images: ProbeSet, texts: Sequence[str]
    ) -> Iterator[Float[np.ndarray, "images_of_chunk texts"]]:
        """CLIP cosines of all images with each text, in chunks of images."""
        of_texts = embed_texts(self.store, self.encoder, texts)
        of_images = probe_embeddings(self.store, self.encoder, self._others(images), dim=of_texts.shape[1])
        for first in range(0, len(of_images), _CHUNK):
            yield of_images[first : first + _CHUNK] @ of_texts.T

    def draw(self, concepts: Sequence[str]) -> dict[str, Rendering]:
        """Newly drawn images of each concept."""
        return self.studio.render(concepts)

    def _others(self, images: ProbeSet) -> ProbeSet:
        if shared := self.explaining & set(images.ids):
            raise UsageError(
                f"{len(shared)} of the {len(images.ids)} images of {images.name} explain neurons of this run:"
                " held-out images must be others"
            )
        return images
