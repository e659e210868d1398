"""Concepts that the user supplies: for all neurons, or a file with some for each neuron (DnR 3.2.3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import yaml

from dnr_bench.data.neuron import Layer, Neuron
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.neuron_names import parse_neuron
from dnr_bench.infra.text_files import csv_rows, read_text

#: Concepts of one neuron: each of them is drawn.
_MOST = 10_000
COLUMNS = ("layer", "unit", "concept")


class UserConcepts:
    """Concepts for all neurons, or for single ones.

    given: a list for all neurons, a CSV file with the columns layer, unit, concept, or a YAML file
    {"concepts:17": [striped ring, ...]}. A file may speak of all neurons of the target; those that the run
    does not describe are passed over.
    """

    def __init__(self, given: Sequence[object] | str) -> None:
        self.given = given
        if not isinstance(given, str) and len(given) > _MOST:
            raise UsageError(f"user_concepts: {len(given)} are too many for every neuron; at most {_MOST}")
        if not isinstance(given, str):
            self.for_all = tuple(_concept(text, f"user_concepts[{i}]") for i, text in enumerate(given))
        elif Path(given).suffix not in _READERS:
            raise UsageError(
                f"user_concepts={given!r} is neither a list like [striped ring,red] nor a .csv or .yaml file"
            )

    def concepts(self, neurons: Sequence[Neuron], layers: Sequence[Layer]) -> dict[Neuron, tuple[str, ...]]:
        """The concepts of each of the neurons that has some."""
        if not isinstance(self.given, str):
            return dict.fromkeys(neurons, self.for_all) if self.for_all else {}
        units = {layer.name: layer.units for layer in layers}
        found: dict[Neuron, list[str]] = {}
        many = Counter(neuron for neuron, _, _ in self._lines).most_common(1)
        if many and many[0][1] > _MOST:
            raise UsageError(f"user_concepts={self.given!r}: {many[0][0]} has more than {_MOST} concepts")
        for neuron, concept, place in self._lines:
            if neuron.unit >= units.get(neuron.layer, 0):
                allowed = ", ".join(f"{name}:0-{count - 1}" for name, count in units.items())
                raise UsageError(f"{place}: the target has no neuron {neuron}; it has {allowed}")
            found.setdefault(neuron, []).append(concept)
        wanted = set(neurons)
        return {neuron: tuple(concepts) for neuron, concepts in found.items() if neuron in wanted}

    @cached_property
    def _lines(self) -> list[tuple[Neuron, str, str]]:
        """The neuron, concept and place of each line of the file."""
        path = str(self.given)
        return list(_READERS[Path(path).suffix](read_text(path, "user_concepts"), path))


def _csv_lines(text: str, where: str) -> Iterator[tuple[Neuron, str, str]]:
    for line, cells in csv_rows(text, COLUMNS, f"user_concepts={where!r}"):
        place = f"user_concepts={where!r}, line {line}"
        if cells is None:
            raise UsageError(f"{place}: more values than columns; a comma within a concept needs quotes")
        layer, unit, concept = (cells[name] for name in COLUMNS)
        yield parse_neuron(f"{layer}:{unit}", place), _concept(concept, place), place


def _yaml_lines(text: str, where: str) -> Iterator[tuple[Neuron, str, str]]:
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date that is none, lists too deep
        raise UsageError(f"user_concepts={where!r} is no YAML: {error}") from error
    if not isinstance(content, Mapping) or not all(isinstance(v, list) for v in content.values()):
        raise UsageError(
            f'user_concepts={where!r} must hold lists of concepts: {{"concepts:17": [striped ring]}}'
        )
    for name, concepts in content.items():
        place = f"user_concepts={where!r}, {name}"
        for concept in concepts:
            yield parse_neuron(name, place), _concept(concept, place), place


def _concept(concept: object, where: str) -> str:
    if not isinstance(concept, str) or not concept.strip():
        raise UsageError(f"{where}: {concept!r} is no concept")
    return " ".join(concept.split())


_READERS = {".csv": _csv_lines, ".yaml": _yaml_lines, ".yml": _yaml_lines}
