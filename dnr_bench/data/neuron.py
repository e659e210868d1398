"""Layers and neurons of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: Units of layers whose activations are set to 0 before the network goes on.
Pruning = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Layer:
    """One layer of a target: feature maps (spatial), token sequences or logits."""

    name: str
    units: int
    spatial: bool


@dataclass(frozen=True, order=True)
class Neuron:
    """One unit of one layer; units count from 0."""

    layer: str
    unit: int

    def __str__(self) -> str:
        return f"{self.layer}:{self.unit}"
