"""Images that explain no neuron: what they evoke in the target and in CLIP, for evaluators."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from dnr_bench.data.exemplars import Activations
from dnr_bench.data.images import ProbeSet
from dnr_bench.data.neuron import Layer, Pruning
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.store import Store
from dnr_bench.protocols import ImageTextEncoder, Target
from dnr_bench.stages.activations import probe_activations, pruned_activations
from dnr_bench.stages.embeddings import embed_texts, probe_embeddings

_CHUNK = 8192


@dataclass(frozen=True)
class HeldOutImages:
    """Looks at images of a data set, after checking that none of them explains a neuron of the run.

    explaining: the content ids of the images that explain neurons or choose labels.
    """

    store: Store
    target: Target
    encoder: ImageTextEncoder
    layers: Sequence[Layer]
    explaining: Set[str]

    def activations(self, images: ProbeSet) -> dict[str, Activations]:
        """Pooled activations of all layers of the run, in one pass.

        Raises `UsageError` for a set that has an image in common with the probing set.
        """
        return probe_activations(self.store, self.target, self._checked(images), self.layers)

    def pruned(self, images: ProbeSet, layer: str, prunings: Sequence[Pruning]) -> list[Activations]:
        """Pooled activations of any one layer of the target, once for each pruning, in one pass.

        Raises `UsageError` for an unknown layer, and as `activations` does.
        """
        known = {found.name: found for found in self.target.layers()}
        if layer not in known:
            raise UsageError(f"the target has no layer {layer!r}; it has {', '.join(known)}")
        return pruned_activations(self.store, self.target, self._checked(images), known[layer], prunings)

    def cosines(
        self, images: ProbeSet, texts: Sequence[str]
    ) -> Iterator[Float[np.ndarray, "images_of_chunk texts"]]:
        """CLIP cosines of all images with each text, in chunks of images."""
        of_texts = embed_texts(self.store, self.encoder, texts)
        of_images = probe_embeddings(self.store, self.encoder, self._checked(images), dim=of_texts.shape[1])
        for first in range(0, len(of_images), _CHUNK):
            yield of_images[first : first + _CHUNK] @ of_texts.T

    def vectors(self, images: ProbeSet) -> Float[np.ndarray, "images dim"]:
        """CLIP unit vectors of all images, mapped from their file."""
        dim = embed_texts(self.store, self.encoder, ["image"]).shape[1]
        return probe_embeddings(self.store, self.encoder, self._checked(images), dim=dim)

    def check(self, images: ProbeSet) -> None:
        """Raises `UsageError` for a set that has an image in common with those that explain neurons."""
        self._checked(images)

    def _checked(self, images: ProbeSet) -> ProbeSet:
        if shared := self.explaining & set(images.ids):
            raise UsageError(
                f"{len(shared)} of the {len(images.ids)} images of {images.name} explain neurons of this run:"
                f" held-out images must be others ({images.told(shared)})"
            )
        return images
