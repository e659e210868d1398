"""Labels that another method has written to a CSV file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from dnr_bench.data.neuron import Layer, Neuron
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.neuron_names import check_units, is_unit
from dnr_bench.infra.text_files import csv_rows, read_text

_SHOWN_ERRORS = 10


@dataclass(frozen=True)
class LabelFile:
    """A CSV file with a row for each unit and its labels, best first, in the columns `labels`.

    `layer_column` holds the layer; None: all rows are of `layer`. `first_unit`: the number that the file
    gives the first unit of a layer (0 or 1). Empty cells are no labels.
    """

    path: str
    labels: Sequence[str]
    unit_column: str
    layer_column: str | None
    layer: str | None
    first_unit: int

    def __post_init__(self) -> None:
        if (self.layer is None) == (self.layer_column is None):
            raise UsageError(
                f"layer={self.layer!r} and layer_column={self.layer_column!r}: name the layer of all rows, or"
                " the column that holds it, and set the other to null"
            )
        if self.first_unit not in (0, 1):
            raise UsageError(f"first_unit={self.first_unit} must be 0 or 1")
        if not self.labels:
            raise UsageError("labels=[] must name at least one column")

    def concepts(self, neurons: Sequence[Neuron], layers: Sequence[Layer]) -> dict[Neuron, tuple[str, ...]]:
        """The labels of all units in the file.

        Raises `UsageError` where units do not exist, or none of the neurons has a label.
        """
        check_units(self.labels_of, layers, f"path={self.path!r}")
        if not any(self.labels_of.get(neuron) for neuron in neurons):
            named = ", ".join(sorted({neuron.layer for neuron in self.labels_of}))
            raise UsageError(
                f"path={self.path!r} has labels for the layers {named}, but for none of these neurons"
                f" ({neurons[0]} ...)"
            )
        return self.labels_of

    @cached_property
    def labels_of(self) -> dict[Neuron, tuple[str, ...]]:
        """The labels of each unit; malformed rows raise `UsageError` with their line numbers."""
        columns = [self.unit_column, *([self.layer_column] if self.layer_column else []), *self.labels]
        found: dict[Neuron, tuple[str, ...]] = {}
        errors: list[str] = []
        for line, cells in csv_rows(read_text(self.path, "path"), columns, f"path={self.path!r}"):
            if problem := self._take(cells, found):
                errors.append(f"line {line}: {problem}")
        if errors:
            more = f"\n  ... and {len(errors) - _SHOWN_ERRORS} more" if len(errors) > _SHOWN_ERRORS else ""
            listed = "\n  ".join(errors[:_SHOWN_ERRORS])
            raise UsageError(f"path={self.path!r} has {len(errors)} malformed rows:\n  {listed}{more}")
        if not found:
            raise UsageError(f"path={self.path!r} holds no row")
        return found

    def _take(self, cells: Mapping[str, str] | None, found: dict[Neuron, tuple[str, ...]]) -> str | None:
        """Add a row to what was found, or say what is wrong with it."""
        if cells is None:
            return "more values than columns"
        unit = cells[self.unit_column]
        layer = cells[self.layer_column] if self.layer_column else self.layer
        if not layer:
            return "no layer"
        if not is_unit(unit) or int(unit) < self.first_unit:
            return f"{unit!r} is no unit; the first one is {self.first_unit}"
        neuron = Neuron(layer, int(unit) - self.first_unit)
        if neuron in found:
            return f"{neuron} was there before"
        found[neuron] = tuple(dict.fromkeys(cells[name] for name in self.labels if cells[name]))
        return None
