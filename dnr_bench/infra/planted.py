"""planted.json beside the weights of a network whose units were trained to detect known concepts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from dnr_bench.data.neuron import Neuron
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.shipped import embedded_path


@dataclass(frozen=True)
class PlantedTruth:
    """What one unit detects.

    kind: of concept, such as "pair"; concept: in words, "" where no word says it; weights: how far each side
    of an "or" in `concept` drives the unit, () for all alike.
    """

    neuron: Neuron
    kind: str
    concept: str
    weights: tuple[float, ...] = ()


def read_planted(checkpoint: str | None) -> list[PlantedTruth]:
    """The units in the planted.json of a checkpoint's directory; none where there is no such file.

    Raises `UsageError` for a file that is something else.
    """
    path = embedded_path(checkpoint) / "planted.json" if checkpoint is not None else None
    if path is None or not path.is_file():
        return []
    try:
        return [_truth(unit) for unit in json.loads(path.read_text(encoding="utf-8"))]
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{path} does not list units with layer, unit, kind and concept: {error!r}"
        ) from error


def _truth(unit: Mapping[str, Any]) -> PlantedTruth:
    layer, number, kind, concept = (unit[name] for name in ("layer", "unit", "kind", "concept"))
    if not all(isinstance(text, str) for text in (layer, kind, concept)):
        raise ValueError(f"{layer!r}, {kind!r} and {concept!r} must be texts")
    if type(number) is not int or number < 0:
        raise ValueError(f"there is no unit {number!r}")
    return PlantedTruth(Neuron(layer, number), kind, concept, _weights(concept, unit.get("weights", ())))


def _weights(concept: str, weights: Sequence[float]) -> tuple[float, ...]:
    if weights and len(weights) != len(concept.split(" or ")):
        raise ValueError(f"{concept!r} has not {len(weights)} alternatives")
    if not all(isfinite(weight) and weight > 0 for weight in weights):
        raise ValueError(f"weights {list(weights)} must be above 0")
    return tuple(float(weight) for weight in weights)
