"""Step 3 of the method, second half: what is known of a neuron and its candidates, for scorers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from dnr_bench.data.evidence import Evidence, Rendering
from dnr_bench.data.exemplars import Exemplars


def gather_evidence(
    exemplars: Exemplars,
    exemplar_vector: Float[np.ndarray, " dim"],
    renderings: Sequence[Rendering],
    probe_correlation: Float[np.ndarray, " concepts"] | None = None,
) -> Evidence:
    """The evidence on one neuron and its candidates; rows are padded with NaN.

    Args:
        exemplars: of the neuron.
        exemplar_vector: the mean of the exemplars' CLIP unit vectors; a mean of cosines is a product with it.
        renderings: one per candidate.
        probe_correlation: one value per candidate, for scorers that look at the probing set.
    """
    neuron = exemplars.neuron
    n_images = max(len(rendering.images) for rendering in renderings)
    activations = np.full((len(renderings), n_images), np.nan)
    image_image = np.full((len(renderings), n_images), np.nan)
    image_text = np.full(len(renderings), np.nan)
    for row, rendering in enumerate(renderings):
        n = len(rendering.images)
        activations[row, :n] = rendering.activations[neuron.layer][:, neuron.unit]
        image_image[row, :n] = rendering.embeddings @ exemplar_vector
        image_text[row] = rendering.text_embedding @ exemplar_vector
    return Evidence(activations, image_image, image_text, exemplars.mean_activation, probe_correlation)
