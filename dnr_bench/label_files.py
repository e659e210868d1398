"""Labels that another method has written to a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO

from dnr_bench.errors import UsageError
from dnr_bench.text_files import read_text
from dnr_bench.types import Layer, Neuron

_SHOWN_ERRORS = 10


def check_units(labels: Mapping[Neuron, object], layers: Sequence[Layer], where: str) -> None:
    """Raises `UsageError` for labels of units that a layer does not have."""
    units = {layer.name: layer.units for layer in layers}
    for neuron in labels:
        if neuron.layer in units and neuron.unit >= units[neuron.layer]:
            raise UsageError(
                f"{where} has a label for unit {neuron.unit} of {neuron.layer!r}, which has"
                f" 0..{units[neuron.layer] - 1}: does the file count from 1 (first_unit=1)?"
            )


class NoLabels:
    """No file."""

    def read(self) -> dict[Neuron, tuple[str, ...]]:
        """Nothing."""
        return {}


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

    def read(self) -> dict[Neuron, tuple[str, ...]]:
        """The labels of each unit; malformed rows raise `UsageError` with their line numbers."""
        content = StringIO(read_text(self.path, "path"), newline="")
        reader = csv.DictReader(content, skipinitialspace=True)
        found: dict[Neuron, tuple[str, ...]] = {}
        errors: list[str] = []
        try:
            self._check_columns([name.strip() for name in reader.fieldnames or ()])
            reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            for row in reader:
                problem = self._take(row, found)
                if problem:
                    errors.append(f"line {reader.line_num}: {problem}")
        except csv.Error as error:
            raise UsageError(f"path={self.path!r}, line {reader.line_num}: {error}") from error
        if errors:
            more = f"\n  ... and {len(errors) - _SHOWN_ERRORS} more" if len(errors) > _SHOWN_ERRORS else ""
            listed = "\n  ".join(errors[:_SHOWN_ERRORS])
            raise UsageError(f"path={self.path!r} has {len(errors)} malformed rows:\n  {listed}{more}")
        if not found:
            raise UsageError(f"path={self.path!r} holds no row")
        return found

    def _check_columns(self, present: Sequence[str]) -> None:
        wanted = [self.unit_column, *([self.layer_column] if self.layer_column else []), *self.labels]
        if missing := [name for name in wanted if name not in present]:
            raise UsageError(f"path={self.path!r} lacks the columns {missing}; it has {list(present)}")

    def _take(self, row: dict[str, str | None], found: dict[Neuron, tuple[str, ...]]) -> str | None:
        """Add a row to what was found, or say what is wrong with it."""
        if None in row:
            return "more values than columns"
        unit = (row[self.unit_column] or "").strip()
        layer = (row[self.layer_column] or "").strip() if self.layer_column else self.layer
        if not layer:
            return "no layer"
        if not unit.isdecimal() or int(unit) < self.first_unit:
            return f"{unit!r} is no unit; the first one is {self.first_unit}"
        neuron = Neuron(layer, int(unit) - self.first_unit)
        if neuron in found:
            return f"{neuron} was there before"
        cells = (" ".join((row[name] or "").split()) for name in self.labels)
        found[neuron] = tuple(dict.fromkeys(cell for cell in cells if cell))
        return None
