"""Step 3 of the method, second half: what is known of a neuron and its candidates, for scorers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from dnr_bench.data.evidence import Evidence, Rendering
from dnr_bench.data.exemplars import Exemplars


def gather_evidence(
    exemplars: Exemplars,
    exemplar_vector: Float[np.ndarray, " dim"],
    renderings: Sequence[Rendering],
    probe_correlation: Float[np.ndarray, " concepts"] | None = None,
    prior: Float[np.ndarray, " concepts"] | None = None,
    shows: Sequence[Bool[np.ndarray, " images"]] | None = None,
    typical_activation: float | None = None,
) -> Evidence:
    """The evidence on one neuron and its candidates; rows are padded with NaN.

    Args:
        exemplars: of the neuron.
        exemplar_vector: the mean of the exemplars' CLIP unit vectors; a mean of cosines is a product with it.
        renderings: one per candidate.
        probe_correlation: one value per candidate, for scorers that look at the probing set.
        prior: one value per candidate, for scorers that look at captions.
        shows: for each candidate which of its images show it, for scorers that ask.
        typical_activation: the neuron's mean over probing images, for the same scorers.
    """
    neuron = exemplars.neuron
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
    if shows is not None:
        padded = np.zeros((len(renderings), n_images), bool)
        for row, of_concept in enumerate(shows):
            padded[row, : len(of_concept)] = of_concept
    return Evidence(
        activations,
        image_image,
        image_text,
        exemplars.mean_activation,
        probe_correlation,
        prior,
        padded,
        typical_activation,
    )
