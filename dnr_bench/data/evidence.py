"""Candidate concepts, the images that were generated of them, and what a scorer may look at."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

#: Where a concept came from: captions of exemplars, captions of generated images, another method, the user,
#: or from the user and one of the others.
Origin = Literal["captions", "refined", "method", "user", "both"]


#: Evidence that is gathered only for scorers that look at it.
Need = Literal["probe_correlation", "prior", "shows"]

#: Of scorers that look at none of that.
NOTHING_MORE: frozenset[Need] = frozenset()


@dataclass(frozen=True)
class Candidate:
    """A concept that may describe a neuron, where it came from, and in which iteration (0: before any).

    prior: how well the captions of the exemplars support it, before any image is drawn; NaN where there are
    no captions or no scorer asks.
    """

    text: str
    origin: Origin
    iteration: int = 0
    prior: float = math.nan


@dataclass(frozen=True)
class Rendering:
    """What the images that were generated for one concept evoke.

    `activations` holds every layer of the run: {layer: [images, units]}; `embeddings` have length 1; `fit`:
    how well each image shows the concept, where the generator itself knows: 1 as well as can be, 0 as any
    image does.
    """

    concept: str
    activations: Mapping[str, Float[np.ndarray, "images _"]]
    embeddings: Float[np.ndarray, "images dim"]
    text_embedding: Float[np.ndarray, " dim"]
    fit: Float[np.ndarray, " images"] | None = None


@dataclass(frozen=True)
class Evidence:
    """All that a scorer may look at for one neuron; NaN where a concept has fewer images than others.

    activations: of the neuron on each candidate's generated images.
    image_image: mean CLIP cosine of each generated image with the neuron's exemplars.
    image_text: mean CLIP cosine of each candidate's text with the neuron's exemplars.
    exemplar_activation: the neuron's mean activation on its exemplars.
    probe_correlation: over the probing set, of the neuron's activation with each candidate's CLIP cosine.
    prior: how well the captions of the exemplars support each candidate; NaN where nothing is known.
    shows: whether each generated image shows its candidate; False where there is no image.
    typical_activation: the neuron's mean activation on probing images.

    What is None was not asked for.
    """

    activations: Float[np.ndarray, "candidates images"]
    image_image: Float[np.ndarray, "candidates images"]
    image_text: Float[np.ndarray, " candidates"]
    exemplar_activation: float
    probe_correlation: Float[np.ndarray, " candidates"] | None = None
    prior: Float[np.ndarray, " candidates"] | None = None
    shows: Bool[np.ndarray, "candidates images"] | None = None
    typical_activation: float | None = None
