"""Ratings of others, as a table with a row per neuron: Layer, Unit, and a column per method and rater."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.text_files import csv_rows, read_text, shortened
from dnr_bench.results.ratings.analysis import Rating
from dnr_bench.results.ratings.study import SCALE
from dnr_bench.results.ratings.validity import Dropped

_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no", "")


@dataclass(frozen=True)
class WideRatings:
    """ratings: those that count. methods: in the order of the columns. dropped: what was left out."""

    ratings: tuple[Rating, ...]
    methods: tuple[str, ...]
    dropped: tuple[Dropped, ...]


def is_wide(path: Path) -> bool:
    """Whether a CSV file has the columns Layer and Unit, and ratings."""
    if path.suffix != ".csv":
        return False
    columns = _columns(read_text(path, "ratings"))
    return {"Layer", "Unit"} <= set(columns) and any(name.endswith(" Rating") for name in columns)


def read_wide(path: Path) -> WideRatings:
    """The ratings of a table with the columns Layer, Unit, "METHOD Label" and "METHOD RATER Rating".

    Where a column "FLAG RATER" is true, what that rater says of the neuron does not count (as
    "Uninterpretable E1" of the table that DnD's authors published). Nobody was asked which label is best.

    Raises:
        UsageError: a column is missing, or a value is no rating.
    """
    text = read_text(path, "ratings")
    columns = _columns(text)
    rated = [name.removesuffix(" Rating") for name in columns if name.endswith(" Rating")]
    raters = list(dict.fromkeys(name.rpartition(" ")[2] for name in rated))
    methods = list(dict.fromkeys(name.rpartition(" ")[0] for name in rated))
    if not all(methods):
        raise UsageError(f"{path}: columns of ratings are called METHOD RATER Rating")
    wanted = [f"{method} {rater} Rating" for method in methods for rater in raters]
    labels = {method: _label_column(method, columns, path) for method in methods}
    flags = {r: [c for c in columns if c.endswith(f" {r}") and c not in wanted] for r in raters}
    needed = ["Layer", "Unit", *labels.values(), *wanted, *(c for of_one in flags.values() for c in of_one)]
    ratings: list[Rating] = []
    left_out: dict[tuple[str, str], int] = {}
    for line, row in csv_rows(text, needed, str(path)):
        if row is None:
            raise UsageError(f"{path}, line {line}: more values than columns")
        for rater in raters:
            raised = [c for c in flags[rater] if _flag(row[c], c, path, line)]
            if raised or not all(row[f"{method} {rater} Rating"] for method in methods):
                reason = f"flagged: {raised[0].removesuffix(f' {rater}')}" if raised else "not rated"
                left_out[rater, reason] = left_out.get((rater, reason), 0) + 1
                continue
            ratings += [_rating(row, rater, m, labels[m], f"{path}, line {line}") for m in methods]
    dropped = tuple(Dropped(rater, n, reason) for (rater, reason), n in left_out.items())
    return WideRatings(tuple(ratings), tuple(methods), dropped)


def _rating(row: Mapping[str, str], rater: str, method: str, column: str, where: str) -> Rating:
    said = row[f"{method} {rater} Rating"]
    if said not in map(str, SCALE):
        raise UsageError(
            f"{where}: {method} {rater} Rating is {shortened(said)} and must lie in {SCALE[0]}..{SCALE[-1]}"
        )
    layer = f"layer{row['Layer']}" if row["Layer"].isdecimal() else row["Layer"]
    neuron = f"{layer}:{row['Unit']}"
    return Rating(rater, neuron, layer, method, row[column], float(said), float("nan"))


def _columns(text: str) -> list[str]:
    return [name.strip() for name in next(csv.reader([text.partition("\n")[0]], skipinitialspace=True), [])]


def _label_column(method: str, columns: Sequence[str], path: Path) -> str:
    """The column of a method's labels; the authors call "Topk-Sq" there "Topk-Sq Caption"."""
    found = [c for c in columns if c == f"{method} Label"] or [
        c for c in columns if c.endswith(" Label") and c.startswith(f"{method} ")
    ]
    if len(found) != 1:
        raise UsageError(f"{path} lacks a column {method} Label; it has {columns}")
    return found[0]


def _flag(value: str, column: str, path: Path, line: int) -> bool:
    if value.lower() not in (*_TRUE, *_FALSE):
        raise UsageError(f"{path}, line {line}: {column} is {shortened(value)} and must be true or false")
    return value.lower() in _TRUE
