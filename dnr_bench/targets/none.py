"""Layers without their network: for labels from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from dnr_bench.data.images import Image
from dnr_bench.data.neuron import Layer, Pruning
from dnr_bench.infra.digests import fingerprint_of
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.text_files import read_text


class NoNetwork:
    """`layers`: of each layer a file with the names of its units, one per line in order, or their number."""

    def __init__(self, layers: Mapping[str, str | int]) -> None:
        if not layers:
            raise UsageError("layers={} must name at least one layer")
        self._names = {layer: _names(layer, of_layer) for layer, of_layer in layers.items()}
        self._layers = [
            Layer(
                layer, of_layer if isinstance(of_layer, int) else len(self._names[layer] or ()), spatial=False
            )
            for layer, of_layer in layers.items()
        ]
        self.fingerprint = fingerprint_of("no_network", {"layers": [layer.name for layer in self._layers]})

    def layers(self) -> list[Layer]:
        """The layers that were given."""
        return self._layers

    def unit_names(self, layer: str) -> tuple[str, ...] | None:
        """The names of a layer's units, where a file told them."""
        return self._names.get(layer)

    def run(self, images: Sequence[Image], layers: Sequence[str]) -> dict[str, Float[np.ndarray, "images _"]]:
        """There is no network: raises `UsageError`."""
        raise _no_network()

    def stream(
        self, images: Sequence[Image], layers: Sequence[str], prunings: Sequence[Pruning] = ({},)
    ) -> Iterator[list[dict[str, Float[np.ndarray, "batch _"]]]]:
        """There is no network: raises `UsageError`."""
        raise _no_network()

    def maps(
        self, images: Sequence[Image], layer: str, pairs: Sequence[tuple[int, int]]
    ) -> list[Float[np.ndarray, "map_height map_width"]]:
        """There is no network: raises `UsageError`."""
        raise _no_network()

    def seen_box(self, height: int, width: int) -> tuple[float, float, float, float]:
        """The whole image, as nothing looks at it."""
        return (0.0, 0.0, float(width), float(height))


def _names(layer: str, given: str | int) -> tuple[str, ...] | None:
    if isinstance(given, int):
        if given < 1:
            raise UsageError(f"layers.{layer}={given} must be at least 1, or a file of names")
        return None
    names = tuple(line.strip() for line in read_text(given, f"layers.{layer}").splitlines())
    while names and not names[-1]:
        names = names[:-1]
    if "" in names or not names:  # left out, it would shift the names of all units after it
        line = names.index("") + 1 if names else 1
        raise UsageError(f"layers.{layer}={given!r} has no name in line {line}")
    return names


def _no_network() -> UsageError:
    return UsageError(
        "target=none is no network, but something asks for activations: choose a target, or leave out the"
        " evaluators that need one (evaluator=[fc_layer])"
    )
