"""Which neurons a run describes: `neurons.layers`, `neurons.units` and `neurons.sample`."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np

from dnr_bench.data.neuron import Layer, Neuron
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.planted import read_planted
from dnr_bench.infra.ranges import check_range

_RANGE = re.compile(r"([0-9]{1,9})-([0-9]{1,9})")


@dataclass(frozen=True)
class NeuronSelection:
    """layers: by name; units: "all", a range "0-15" (both ends count) or a list of units from 0 on.

    sample: describe that many units of each layer, chosen at random from these by the seed; None: all.
    strata: a checkpoint's directory; where its planted.json tells kinds of units, each kind has its share of
        the sample.
    """

    layers: Sequence[Any]  # elements are checked below, each with a message of its own
    units: str | Sequence[Any]
    sample: int | None
    strata: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.layers, str):
            raise UsageError(f"neurons.layers={self.layers!r} must be a list: neurons.layers=[{self.layers}]")
        wrong = [] if isinstance(self.units, str) else [u for u in self.units if type(u) is not int]
        if wrong or not all(isinstance(layer, str) for layer in self.layers):
            raise UsageError(f"neurons: layers are names and units whole numbers, not {wrong or self.layers}")
        if not self.layers:
            raise UsageError("neurons.layers is empty; name at least one layer")
        check_range(1, 1_000_000_000, sample=self.sample)

    def choose_layers(self, offered: Sequence[Layer]) -> list[Layer]:
        """The layers asked for; an unknown one raises `UsageError` with those that exist."""
        known = {layer.name: layer for layer in offered}
        for name in self.layers:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                listed = ", ".join(f"{layer.name} ({layer.units})" for layer in offered)
                raise UsageError(f"neurons.layers: unknown layer {name!r}{hint}\nlayers (units): {listed}")
        return [known[name] for name in dict.fromkeys(self.layers)]

    def choose(self, layers: Sequence[Layer], seed: int) -> list[Neuron]:
        """The neurons in order of layer and unit as given; an unknown unit raises `UsageError`."""
        return [Neuron(layer.name, unit) for layer in layers for unit in self._units(layer, seed)]

    def _units(self, layer: Layer, seed: int) -> list[int]:
        units = self._listed(layer)
        wrong = [unit for unit in units if not 0 <= unit < layer.units]
        if wrong:
            raise UsageError(
                f"neurons.units: layer {layer.name!r} has no unit {wrong[0]}; it has 0..{layer.units - 1}"
            )
        if self.sample is None or self.sample >= len(units):
            return units
        stream = int.from_bytes(sha256(layer.name.encode()).digest()[:4], "big")
        rng = np.random.default_rng([seed, stream])
        kinds = {planted.neuron: planted.kind for planted in read_planted(self.strata)}
        strata = [kinds.get(Neuron(layer.name, unit), "") for unit in units]
        picked = in_proportion(strata, rng)[: self.sample]  # a larger sample holds a smaller one
        return [units[i] for i in sorted(picked)]

    def _listed(self, layer: Layer) -> list[int]:
        if not isinstance(self.units, str):
            if not self.units:
                raise UsageError("neurons.units is empty; give units, a range like 0-15, or all")
            return list(dict.fromkeys(self.units))
        if self.units == "all":
            return list(range(layer.units))
        match = _RANGE.fullmatch(self.units)
        if not match or int(match[1]) > int(match[2]):
            raise UsageError(
                f"neurons.units={self.units!r} must be all, a range like 0-15, or a list [0,3,7]"
            )
        first, last = int(match[1]), int(match[2])
        return list(range(first, min(last, max(first, layer.units)) + 1))  # of unknown units one is enough


def in_proportion(strata: Sequence[str], rng: np.random.Generator) -> list[int]:
    """The places of all items in a random order whose beginnings hold each stratum in proportion.

    Of n items, the i-th of a stratum of m comes about (i + 1/2) n / m places into the order.
    """
    drawn = rng.permutation(len(strata))
    sizes, seen, depth = Counter(strata), Counter[str](), np.empty(len(strata))
    for place in drawn:
        stratum = strata[place]
        depth[place] = (seen[stratum] + rng.random()) / sizes[stratum]
        seen[stratum] += 1
    return [int(place) for place in sorted(drawn, key=lambda place: depth[place])]
