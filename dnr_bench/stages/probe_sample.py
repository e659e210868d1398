"""Random probing images that stand for all of them where a mean is enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from dnr_bench.data.evidence import Rendering
from dnr_bench.data.exemplars import Activations
from dnr_bench.data.images import ProbeSet
from dnr_bench.data.neuron import Neuron
from dnr_bench.infra.store import Store
from dnr_bench.protocols import ImageTextEncoder, knows
from dnr_bench.stages.embeddings import embed_views
from dnr_bench.stages.exemplars import probe_view

#: Their number.
_SIZE = 500
#: So many images that fit a text best say how well it can be fitted.
_HIGHEST = 3


class ProbeSample:
    """A sample of a probing set, drawn by the seed.

    shown: how many images of a concept that was looked at for a neuron show it.
    """

    def __init__(self, store: Store, encoder: ImageTextEncoder, probe: ProbeSet, seed: int) -> None:
        self.store, self.encoder, self.probe, self.seed = store, encoder, probe, seed
        self.shown: dict[tuple[Neuron, str], int] = {}

    @cached_property
    def places(self) -> Int[np.ndarray, " images"]:
        """The places of its images in the probing set, in order."""
        return sample_places(len(self.probe.images), _SIZE, self.seed)

    @cached_property
    def vectors(self) -> Float[np.ndarray, "images dim"]:
        """The CLIP vectors of its images."""
        views = [probe_view(self.probe, int(place)) for place in self.places]
        return embed_views(self.store, self.encoder, [views])[0]

    def mean_activation(self, activations: Mapping[str, Activations], neuron: Neuron) -> float:
        """The mean activation of a neuron."""
        return float(activations[neuron.layer].values[self.places, neuron.unit].mean())

    def shows(
        self,
        neuron: Neuron,
        renderings: Sequence[Rendering],
        exemplars: Float[np.ndarray, "exemplars dim"],
        min_fit: float,
    ) -> list[Bool[np.ndarray, " images"]]:
        """Which images of each concept show it well enough; `exemplars`: the vectors of the neuron's."""
        found = [self.fit(rendering, exemplars) >= min_fit for rendering in renderings]
        for rendering, shows in zip(renderings, found, strict=True):
            self.shown[neuron, rendering.concept] = int(shows.sum())
        return found

    def fit(
        self, rendering: Rendering, exemplars: Float[np.ndarray, "exemplars dim"]
    ) -> Float[np.ndarray, " images"]:
        """How well the images of a concept show it: by the generator's own word, or in CLIP's eyes.

        1 is as well as the probing images that fit best, 0 as well as probing images do on average, or where
        CLIP does not know the words.
        `exemplars`: vectors of the neuron's, from which the concept may come: they count as the sample does.
        """
        if rendering.fit is not None:
            return rendering.fit
        if not knows(self.encoder, [rendering.concept]):
            return np.zeros(len(rendering.embeddings))
        cosines = self.vectors @ rendering.text_embedding
        return relative_fit(
            rendering.embeddings @ rendering.text_embedding, cosines, exemplars @ rendering.text_embedding
        )


def relative_fit(
    values: Float[np.ndarray, " images"],
    sample: Float[np.ndarray, " sample"],
    exemplars: Float[np.ndarray, " exemplars"],
) -> Float[np.ndarray, " images"]:
    """Cosines on a scale on which 0 is the sample's mean, and 1 the mean of the three best.

    The three best of the sample or of the exemplars, whichever are better.
    """
    base = float(sample.mean())
    top = max(_mean_of_highest(sample), _mean_of_highest(exemplars))
    found: np.ndarray = (values - base) / max(top - base, 1e-9)
    return found


def sample_places(n_images: int, wanted: int, seed: int) -> Int[np.ndarray, " images"]:
    """The places of `wanted` images of a set, drawn by the seed; all where there are no more."""
    return np.sort(np.random.default_rng(seed).permutation(n_images)[:wanted])


def _mean_of_highest(values: Float[np.ndarray, " images"]) -> float:
    return float(np.sort(values)[-_HIGHEST:].mean())
