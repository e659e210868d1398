"""A layer of which only the names of its units are known: for labels from elsewhere, without the network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from dnr_bench.errors import UsageError
from dnr_bench.store import digest
from dnr_bench.types import Image, Layer


class ClassNames:
    """The units of `layer` with the names in a file, one a line in the order of the units."""

    def __init__(self, names: str, layer: str) -> None:
        try:
            lines = Path(names).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"names={names!r} cannot be read: {error}") from error
        self.layer, self.names = layer, tuple(line.strip() for line in lines if line.strip())
        if not self.names:
            raise UsageError(f"names={names!r} holds no name")
        self.fingerprint = digest({"class_names": list(self.names), "layer": layer})

    def layers(self) -> list[Layer]:
        """The one layer."""
        return [Layer(self.layer, len(self.names), spatial=False, nonnegative=False)]

    def unit_names(self, layer: str) -> tuple[str, ...] | None:
        """The names of the units."""
        return self.names if layer == self.layer else None

    def run(self, images: Sequence[Image], layers: Sequence[str]) -> dict[str, Float[np.ndarray, "images _"]]:
        """There is no network: raises `UsageError`."""
        raise self._no_network()

    def maps(
        self, images: Sequence[Image], layer: str, pairs: Sequence[tuple[int, int]]
    ) -> list[Float[np.ndarray, "height width"]]:
        """There is no network: raises `UsageError`."""
        raise self._no_network()

    def seen_box(self, height: int, width: int) -> tuple[float, float, float, float]:
        """The whole image, as nothing looks at it."""
        return (0.0, 0.0, float(width), float(height))

    def _no_network(self) -> UsageError:
        return UsageError(
            "target=class_names is no network, but something asks for activations: choose a target, or leave"
            " out the evaluators that need one (evaluator=[fc_layer])"
        )
