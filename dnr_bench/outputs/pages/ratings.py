"""What a rating study found, as a page and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dnr_bench.data.scorecard import Table
from dnr_bench.infra.files import writing
from dnr_bench.infra.text_files import markdown_table, markdown_text
from dnr_bench.outputs.pages.page import write_page
from dnr_bench.outputs.terminal.ratings import shown_row
from dnr_bench.results.ratings.analysis import LabelRating
from dnr_bench.results.ratings.result import RatingResult
from dnr_bench.results.ratings.study import CHANCE, SCALE, Study

#: Columns of words.
_TEXTS = ("method", "layer", "before", "after", "rater", "reason")
#: Labels of each end that the page shows with pictures.
_SHOWN = 12
_NAMES = {
    "ratings": "Methods",
    "ratings_by_layer": "By layer",
    "rating_differences": "Differences, paired within rater and neuron",
    "strengths": "Strengths (Bradley and Terry)",
    "agreement": "Agreement of raters (Krippendorff's alpha, ordinal)",
    "correlations": "Methods",
    "correlations_by_layer": "By layer",
    "correlation_differences": "Differences, paired within neuron",
    "reliability": "How reliable each rater is",
    "left_out": "What was left out, and why",
    "without_label": "Neurons without a label, which were not rated",
}
_NOTES = {
    "ratings": (
        "Mean rating from 1 to 5 and the share of answers that call the label best (labels that say the same"
        " share it), with 95% intervals that are clustered by rater and by neuron. error: standard error."
    ),
    "pictures": (
        "Pearson's r of label and activation over all probing images, from images that were drawn where they"
        " matter and are weighed by their chance to be drawn; 0: unrelated. 95% intervals over neurons."
    ),
}


def write_ratings(result: RatingResult, folder: Path, study: Study | None) -> tuple[Path, Path]:
    """Write ratings.html and ratings.md; the page shows pictures where those of the study lie beside it."""
    path = folder / "ratings.md"
    text = [f"# {markdown_text(result.title)}\n\n{_NOTES[result.asks]}\n\n"]
    for table in result.tables:
        text.append(f"## {_NAMES[table.name]}\n\n{markdown_table(*_cells(table))}")
    with writing(path) as partial:
        partial.write_text("".join(text), encoding="utf-8")
    low, high = (SCALE[0], SCALE[-1]) if result.asks == "ratings" else (-1, 1)
    unit = "rating" if result.asks == "ratings" else "correlation"
    judged = [label for label in result.labels if label.methods != (CHANCE,) and not np.isnan(_value(label))]
    ordered = sorted(judged, key=_value)
    page = write_page(
        folder / "ratings.html",
        "ratings.html.j2",
        title=result.title,
        result=result,
        note=_NOTES[result.asks],
        unit=unit,
        bars=_bars(result.tables[0], unit, low, high, result.chance),
        ends=(low, high),
        texts=_TEXTS,
        tables=[(_NAMES[table.name], *_cells(table)) for table in result.tables],
        liked=[("Rated lowest", ordered[:_SHOWN]), ("Rated highest", ordered[::-1][:_SHOWN])],
        montages=_montages(study, folder),
        value=_value,
    )
    return page, path


def _value(label: LabelRating) -> float:
    return label.correlation if np.isnan(label.rating) else label.rating


def _cells(table: Table) -> tuple[list[str], list[list[str]]]:
    rows = [shown_row(row) for row in table.rows]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return columns, [[row.get(name, "–") for name in columns] for row in rows]


def _bars(
    table: Table, unit: str, low: float, high: float, chance: float | None
) -> Sequence[dict[str, object]]:
    """Places of each method's mean and interval on a line from 0 to 100."""

    def place(value: object) -> float:
        found = float(value) if isinstance(value, int | float) else float("nan")
        return 100 * (min(max(found, low), high) - low) / (high - low) if found == found else -1.0

    return [
        {
            "method": row["method"],
            "mean": row[unit],
            "places": [place(row[name]) for name in (f"{unit}.low", f"{unit}.high", unit)],
            "chance": place(chance),
        }
        for row in table.rows
    ]


def _montages(study: Study | None, folder: Path) -> dict[str, str]:
    """By neuron the file of its pictures, relative to the page."""
    items = [item for item in study.items if item.neuron] if study else []
    names = {item.neuron: f"pictures/{item.montage}.webp" for item in items}
    return {neuron: name for neuron, name in names.items() if (folder / name).is_file()}
