"""The page of a run: its metrics, and every neuron with its pictures, candidates and scores."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dnr_bench.outputs.pages.page import write_page
from dnr_bench.outputs.pictures import Pictures
from dnr_bench.results.comparison import (
    Outcome,
)
from dnr_bench.results.schema import MetricResult, NeuronResult, RunResult
from dnr_bench.stages.lazy import Lazy
from dnr_bench.stages.thumbnails import SIZE

if TYPE_CHECKING:
    pass

_SURE = 0.05
#: Pieces of a page that are written together.
_TOGETHER = 100


def write_report(result: RunResult, pictures: Pictures, folder: Path) -> Path:
    """Write report.html beside result.json in the folder of a run."""
    right = next((name for name, metric in result.metrics.items() if metric.unit == "correct"), None)
    metrics = [_shown_metric(name, metric) for name, metric in result.metrics.items()]
    names = [name for name, metric in result.metrics.items() if metric.item_kind == "neuron"]
    return write_page(
        folder / "report.html",
        "run.html.j2",
        title=_title(folder),
        size=SIZE,
        neurons=Lazy(
            len(result.neurons), lambda place: _shown_neuron(result.neurons[place], pictures, right)
        ),
        layers=list(dict.fromkeys(neuron.layer for neuron in result.neurons)),
        sortable=names,
        metrics=metrics,
        beaten={control: result.beaten_by(control) for control in ("best_constant", "copy")},
        tables=[table for table in result.tables if table.rows],
        strips=pictures.strips,
        result=result,
    )


def _shown_neuron(neuron: NeuronResult, pictures: Pictures, right: str | None) -> dict[str, object]:
    """A neuron for its card; `right`: the metric that tells whether its label is right, if there is one."""
    values = {name: value for name, value in neuron.values.items() if np.isfinite(value)}
    is_right = values.get(right) if right else None
    if is_right is None and neuron.truth and neuron.labels:
        is_right = float(neuron.labels[0].lower() == neuron.truth.lower())
    state = "none" if neuron.unscored else "unknown" if is_right is None else "right" if is_right else "wrong"
    words = [neuron.name, *neuron.labels, neuron.truth or "", *(c.text for c in neuron.candidates)]
    tiles = pictures.concepts.get(neuron.name, {})
    return {
        "name": neuron.name,
        "layer": neuron.layer,
        "labels": neuron.labels,
        "truth": neuron.truth,
        "unscored": neuron.unscored,
        "state": state,
        "score": neuron.score,
        "sorting": json.dumps(values | ({} if neuron.score is None else {"score": neuron.score})),
        "search": " ".join(words).lower(),
        "exemplars": pictures.exemplars.get(neuron.name, ()),
        "candidates": [
            {**asdict(candidate), "tiles": tiles.get(candidate.text, ())} for candidate in neuron.candidates
        ],
    }


def _shown_metric(name: str, metric: MetricResult) -> dict[str, object]:
    """A metric with the places of its interval, of chance and of controls on a line from 0 to 100."""
    marks = {
        "low": metric.low,
        "high": metric.high,
        "mean": metric.mean,
        "chance": metric.chance,
        "constant": metric.controls.get("best_constant"),
        "copy": metric.controls.get("copy"),
        "oracle": metric.oracle,
    }
    known = [mark for mark in marks.values() if mark is not None and np.isfinite(mark)]
    start, end = min([0.0, *known]), max([1.0, *known])
    places = {
        key: None if mark is None or not np.isfinite(mark) else 100 * (mark - start) / (end - start)
        for key, mark in marks.items()
    }
    return {"name": name, **marks, "n": metric.n, "unscored": metric.unscored, "places": places}


def _title(folder: Path) -> str:
    """The settings of the command line, where the folder tells."""
    outcome = Outcome.read(folder)
    return outcome.title if outcome else folder.name
