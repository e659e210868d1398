"""Names of neurons in files and on the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from dnr_bench.data.neuron import Layer, Neuron
from dnr_bench.infra.errors import UsageError


def parse_neuron(name: object, where: str) -> Neuron:
    """The neuron of a name like concepts:17."""
    match = re.fullmatch(r"(.+):([0-9]{1,9})", str(name))
    if match is None:
        raise UsageError(f"{where}: {name!r} is no neuron; write layer:unit, as concepts:17")
    return Neuron(match[1], int(match[2]))


def is_unit(text: str) -> bool:
    """Whether a text is the number of a unit."""
    return re.fullmatch("[0-9]{1,9}", text) is not None


def check_units(labels: Mapping[Neuron, object], layers: Sequence[Layer], where: str) -> None:
    """Raises `UsageError` for labels of units that a layer does not have."""
    units = {layer.name: layer.units for layer in layers}
    for neuron in labels:
        if neuron.layer in units and neuron.unit >= units[neuron.layer]:
            raise UsageError(
                f"{where} has a label for unit {neuron.unit} of {neuron.layer!r}, which has"
                f" 0..{units[neuron.layer] - 1}: does the file count from 1 (first_unit=1)?"
            )
