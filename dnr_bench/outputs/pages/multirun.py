"""The page of a multirun: metrics of its jobs side by side, and which labels changed."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dnr_bench.outputs.pages.page import write_page
from dnr_bench.outputs.plots import draw
from dnr_bench.results.comparison import (
    FEWEST_TO_TEST,
    ComparisonRow,
    Job,
    changed_labels,
    comparison_plots,
    grouped,
    headlines_of,
    records_of,
    sweep_name,
    values_of,
    varied_names,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SURE = 0.05


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
    return write_page(
        folder / "comparison.html",
        "multirun.html.j2",
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
