"""Activations on a probing set, and the images and crops that excite a neuron most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from dnr_bench.data.images import Box
from dnr_bench.data.neuron import Layer, Neuron


@dataclass(frozen=True)
class Activations:
    """Pooled activations of one layer on a probing set, memory-mapped; `digest` names their content."""

    layer: Layer
    values: Float[np.ndarray, "images units"]
    digest: str


@dataclass(frozen=True)
class Exemplar:
    """A probing image, or a crop of it, and the neuron's activation on it."""

    index: int
    box: Box | None
    activation: float


@dataclass(frozen=True)
class Exemplars:
    """One neuron's highest images and crops together, highest first."""

    neuron: Neuron
    items: tuple[Exemplar, ...]

    @property
    def mean_activation(self) -> float:
        """The mean activation over the exemplars."""
        return float(np.mean([item.activation for item in self.items]))
