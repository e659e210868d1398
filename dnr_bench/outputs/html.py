"""One HTML page for a run, and one for a multirun: pictures, candidates, scores; everything is escaped."""

from __future__ import annotations

import json
import sys
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from dnr_bench.infra.files import writing
from dnr_bench.outputs.pictures import Pictures
from dnr_bench.outputs.plots import draw
from dnr_bench.results.comparison import (
    FEWEST_TO_TEST,
    ComparisonRow,
    Job,
    Outcome,
    changed_labels,
    comparison_plots,
    grouped,
    headlines_of,
    records_of,
    sweep_name,
    values_of,
    varied_names,
)
from dnr_bench.results.schema import MetricResult, NeuronResult, RunResult
from dnr_bench.stages.lazy import Lazy
from dnr_bench.stages.thumbnails import SIZE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SURE = 0.05
#: Pieces of a page that are written together.
_TOGETHER = 100


def write_report(result: RunResult, pictures: Pictures, folder: Path) -> Path:
    """Write report.html beside result.json in the folder of a run."""
    right = next((name for name, metric in result.metrics.items() if metric.unit == "correct"), None)
    metrics = [_shown_metric(name, metric) for name, metric in result.metrics.items()]
    names = [name for name, metric in result.metrics.items() if metric.item_kind == "neuron"]
    return _write(
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


@contextmanager
def without_page(name: str) -> Iterator[None]:
    """Turn an error in making a page into a warning; the result is kept."""
    try:
        yield
    except Exception as error:
        print(f"warning: there is no {name}: {type(error).__name__}: {error}", file=sys.stderr)


def write_comparison(rows: Sequence[ComparisonRow], jobs: Sequence[Job], folder: Path) -> Path:
    """Write comparison.html of a multirun: metrics of its jobs side by side, and which labels changed."""
    names = varied_names(rows)
    better = {
        name: metric.higher_is_better
        for job in jobs
        if job.result is not None
        for name, metric in job.result.metrics.items()
    }
    headlines, flat = headlines_of(rows), [row.flat() for row in rows]
    others_of = list(dict.fromkeys(name for row in rows for name in row.metrics if name not in headlines))
    first, *others = grouped(jobs)
    changes = [
        {**change, "settings": " ".join(f"{k}={group[0].overrides.get(k, '')}" for k in names if k != "seed")}
        for group in others
        for change in changed_labels(records_of(first), records_of(group))
    ]
    return _write(
        folder / "comparison.html",
        "sweep.html.j2",
        title=sweep_name(dict.fromkeys(names, "")),
        values=[(name, values_of(rows, name)) for name in names],
        names=names,
        rows=rows,
        plots=[(plot.y, _svg(draw(flat, plot))) for plot in comparison_plots(rows)],
        headlines=[_table_of(rows, names, name, better) for name in headlines],
        details=[_table_of(rows, names, name, better) for name in others_of],
        failures=[row.status for row in rows if row.status != "finished"],
        changes=changes,
    )


def _table_of(
    rows: Sequence[ComparisonRow], names: Sequence[str], metric: str, better: Mapping[str, bool | None]
) -> dict[str, object]:
    return {"name": metric, "rows": _compared(rows, names, metric, better.get(metric))}


def _svg(figure: Figure) -> str:
    """A plot as the source of an image, which needs no file beside the page."""
    content = BytesIO()
    figure.savefig(content, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{b64encode(content.getvalue()).decode()}"


def _compared(
    rows: Sequence[ComparisonRow], names: Sequence[str], metric: str, higher_is_better: bool | None
) -> list[dict[str, object]]:
    """One metric of all rows, each with the place of its interval on a scale from 0 to 1, or a wider one."""
    having = [row for row in rows if metric in row.metrics]
    ends = [
        v for row in having for v in (row.metrics[metric].low, row.metrics[metric].high) if np.isfinite(v)
    ]
    start = min([0.0, *ends])
    span = max([1.0, *ends]) - start
    found = []
    for row in having:
        value, gain, p = (
            row.metrics[metric],
            row.differences.get(metric),
            row.p_holm.get(metric, float("nan")),
        )
        known = np.isfinite(value.low) and np.isfinite(value.high)
        sure = gain is not None and higher_is_better is not None and p < _SURE
        found.append(
            {
                "settings": [row.overrides.get(name, "") for name in names],
                "mean": value.mean,
                "low": value.low,
                "high": value.high,
                "place": (100 * (value.low - start) / span, 100 * (value.high - value.low) / span)
                if known
                else None,
                "difference": gain,
                "p": p,
                "few": gain is not None and np.isfinite(p) and gain.clusters < FEWEST_TO_TEST,
                "style": ("better" if (gain.mean > 0) == higher_is_better else "worse")
                if sure and gain is not None
                else "",
            }
        )
    return found


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


def _number(value: object) -> str:
    """Short for people; a dash where there is nothing."""
    if not isinstance(value, int | float) or not np.isfinite(value):
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.3g}" if abs(value) >= 10 else f"{value:.3f}"


def _write(path: Path, template: str, **content: object) -> Path:
    environment = Environment(
        loader=PackageLoader("dnr_bench.outputs"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["number"] = _number
    page = environment.get_template(template).stream(**content)
    page.enable_buffering(_TOGETHER)
    with writing(path) as partial:
        page.dump(str(partial), encoding="utf-8")
    return path
