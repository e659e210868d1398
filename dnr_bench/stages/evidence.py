"""Step 3 of the method, second half: what is known of a neuron and its candidates, for scorers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from dnr_bench.data.evidence import Evidence, Rendering
from dnr_bench.data.exemplars import Activations, Exemplars
from dnr_bench.data.neuron import Neuron
from dnr_bench.stages.probe_sample import ProbeSample


@dataclass(frozen=True)
class Shown:
    """Tells which images of a concept show it, and what a neuron does on images at large."""

    sample: ProbeSample
    activations: Mapping[str, Activations]
    min_fit: float

    def images(
        self,
        neuron: Neuron,
        renderings: Sequence[Rendering],
        exemplars: Float[np.ndarray, "exemplars dim"],
    ) -> list[Bool[np.ndarray, " images"]]:
        """For each concept of a neuron which of its images show it; `exemplars`: the neuron's vectors."""
        return self.sample.shows(neuron, renderings, exemplars, self.min_fit)

    def typical_activation(self, neuron: Neuron) -> float:
        """The mean of a neuron over probing images."""
        return self.sample.mean_activation(self.activations, neuron)


def gather_evidence(
    exemplars: Exemplars,
    exemplar_vectors: Float[np.ndarray, "exemplars dim"],
    renderings: Sequence[Rendering],
    probe_correlation: Float[np.ndarray, " concepts"] | None = None,
    prior: Float[np.ndarray, " concepts"] | None = None,
    shown: Shown | None = None,
) -> Evidence:
    """The evidence on one neuron and its candidates; rows are padded with NaN.

    Args:
        exemplars: of the neuron.
        exemplar_vectors: their CLIP unit vectors; a mean of cosines is a product with the mean of these.
        renderings: one per candidate.
        probe_correlation: one value per candidate, for scorers that look at the probing set.
        prior: one value per candidate, for scorers that look at captions.
        shown: tells which images show their candidate, for scorers that ask.
    """
    neuron, exemplar_vector = exemplars.neuron, exemplar_vectors.mean(axis=0)
    n_images = max(len(rendering.embeddings) for rendering in renderings)
    activations = np.full((len(renderings), n_images), np.nan)
    image_image = np.full((len(renderings), n_images), np.nan)
    image_text = np.full(len(renderings), np.nan)
    for row, rendering in enumerate(renderings):
        n = len(rendering.embeddings)
        activations[row, :n] = rendering.activations[neuron.layer][:, neuron.unit]
        image_image[row, :n] = rendering.embeddings @ exemplar_vector
        image_text[row] = rendering.text_embedding @ exemplar_vector
    padded = None
    if shown is not None:
        padded = np.zeros((len(renderings), n_images), bool)
        for row, of_concept in enumerate(shown.images(neuron, renderings, exemplar_vectors)):
            padded[row, : len(of_concept)] = of_concept
    return Evidence(
        activations,
        image_image,
        image_text,
        exemplars.mean_activation,
        probe_correlation,
        prior,
        padded,
        None if shown is None else shown.typical_activation(neuron),
    )
