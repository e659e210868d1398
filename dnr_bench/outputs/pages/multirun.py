"""The page of a multirun: metrics of its jobs side by side, and which labels changed."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dnr_bench.outputs.pages.page import write_page
from dnr_bench.outputs.pictures import Pictures
from dnr_bench.outputs.plots import draw
from dnr_bench.results.comparison import (
    ComparisonRow,
    Job,
    changed_labels,
    comparison_plots,
    grouped,
    headlines_of,
    records_of,
    short_name,
    sweep_name,
    values_of,
    varied_names,
)
from dnr_bench.stages.thumbnails import SIZE
from dnr_bench.statistics.paired import FEWEST_TO_TEST, SURE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Neurons that the gallery shows; a table lists all.
_SHOWN = 100


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
    changes = _changes(jobs, names)
    return write_page(
        folder / "comparison.html",
        "multirun.html.j2",
        title=sweep_name(dict.fromkeys(names, "")),
        values=[(name, values_of(rows, name)) for name in names],
        names=names,
        rows=rows,
        plots=[(plot.name, _svg(draw(flat, plot))) for plot in comparison_plots(rows)],
        headlines=[_table_of(rows, names, name, better) for name in headlines],
        details=[_table_of(rows, names, name, better) for name in others_of],
        failures=[row.status for row in rows if row.status != "finished"],
        changes=changes,
        gallery=_gallery(changes, folder),
        paged={path.parent.name for path in folder.glob("*/report.html")},
        size=SIZE,
    )


def _changes(jobs: Sequence[Job], names: Sequence[str]) -> list[dict[str, object]]:
    """The neurons whose label is another one than with the first settings, and the jobs that gave both."""
    first, *others = grouped(jobs)
    by_seed = {job.seed: job.folder for job in first}
    changes = []
    for group in others:
        after = {job.seed: job.folder for job in group}
        settings = short_name(group[0].unseeded, group[0].choices, names)
        for change in changed_labels(records_of(first), records_of(group)):
            seed = str(change["seed"])
            folders = {"before_in": by_seed.get(seed, ""), "after_in": after.get(seed, "")}
            told = {"settings": settings, "seed": seed if len(by_seed) > 1 else ""}
            changes.append({**change, **told, **folders})
    return changes


def _gallery(changes: Sequence[Mapping[str, object]], folder: Path) -> list[dict[str, object]]:
    """The neurons whose labels changed most often, with what excites them and each label that they got."""
    of_neurons: dict[tuple[str, str], list[Mapping[str, object]]] = {}
    for change in changes:
        of_neurons.setdefault((str(change["before_in"]), str(change["neuron"])), []).append(change)
    chosen = sorted(of_neurons.items(), key=lambda item: -len(item[1]))[:_SHOWN]
    jobs = {job for (job, _), _ in chosen if job}
    pictures = {job: Pictures.read(folder / job) for job in jobs}
    found: list[dict[str, object]] = []
    for (job, neuron), of_neuron in chosen:
        tiles = pictures[job].exemplars.get(neuron, ()) if job else ()
        strip = pictures[job].strips[tiles[0].strip] if tiles else None
        shown = {"neuron": neuron, "strip": strip, "n": len(tiles)}
        found.append({**shown, "changes": of_neuron, "first": of_neuron[0]})
    return found


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
        sure = gain is not None and higher_is_better is not None and p < SURE
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
