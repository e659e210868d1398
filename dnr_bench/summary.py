"""What a person reads in the terminal: tables of neurons, metrics and stages, and of a multirun's jobs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dnr_bench.comparison import LABEL_CHANGE, ComparisonRow
from dnr_bench.run import RunResult

_SHOWN_NEURONS = 24
_WIDTH_OF_LOGS = 120
#: The metrics of the printed comparison; comparison.json in MLflow has a few more.
_COMPARED = (
    "planted.exact",
    "planted.attribute_f1",
    "planted.wrong",
    "planted.truth_in_candidates",
    "planted.reciprocal_rank",
    "planted.exact_gain",
    "refinement.fresh_wins",
    "user_concepts.won",
    "fc_layer.clip_cos",
)


def console() -> Console:
    """The terminal; where output goes to a file or a pipe, wide enough for the tables."""
    found = Console()
    return found if found.is_terminal else Console(width=_WIDTH_OF_LOGS)


def print_result(result: RunResult, folder: Path, parts: Mapping[str, str], console: Console) -> None:
    """The neurons (the first of many), the metrics with intervals, and the time of each stage."""
    console.print(_neuron_table(result))
    hidden = len(result.neurons) - _SHOWN_NEURONS
    if hidden > 0:
        console.print(
            f"  … and {hidden} more in {_short_path(folder)}/result.json and in MLflow\n",
            soft_wrap=True,
        )
    unscored = [record for record in result.neurons if record["unscored"]]
    if unscored:
        reasons = sorted({record["unscored"] for record in unscored})
        console.print(f"  without a label: {len(unscored)} ({escape('; '.join(reasons))})\n")
    if result.metrics:
        console.print(_metric_table(result))
    console.print(_stage_table(result))
    console.print(f"  made with {_listed(parts)}\n", soft_wrap=True)


def print_job(result: RunResult, folder: Path, console: Console) -> None:
    """One line on a job of a multirun; its tables are in MLflow."""
    computed = sum(stage["misses"] for stage in result.stages.values())
    passes = "one probing pass" if result.stages["activations"]["misses"] else "no probing pass"
    console.print(
        f"  {len(result.neurons)} neurons in {result.seconds:.1f} s, {passes}, {computed} items computed; "
        f"{_short_path(folder)}",
        soft_wrap=True,
    )


def print_comparison(rows: Sequence[ComparisonRow], parts: Mapping[str, str], console: Console) -> None:
    """The jobs of a multirun side by side, each metric with its 95% interval; `parts`: what all share."""
    table = Table(title="Jobs of this multirun", box=box.SIMPLE_HEAD, title_justify="left")
    names = [name for name in rows[0].overrides if len({row.overrides.get(name) for row in rows}) > 1]
    metrics = [name for name in _COMPARED if any(name in row.metrics for row in rows)]
    names = names or list(rows[0].overrides)
    for name in names:
        table.add_column(escape(name), no_wrap=True)
    for name in metrics:
        table.add_column(escape(re.sub(r"[._]", "\n", name)), justify="right", no_wrap=True)
    for name in ("computed", "seconds"):
        table.add_column(name, justify="right")
    for row in rows:
        cells = [escape(row.overrides.get(name, "")) for name in names]
        if row.seconds is None:
            table.add_row(*cells, "[red]failed[/red]")
            continue
        cells += [_comparison_cell(row, name) for name in metrics]
        table.add_row(*cells, str(row.computed), f"{row.seconds:.1f}")
    table.caption = "mean over neurons, its 95% interval, and (chance); more in comparison.json in MLflow"
    table.caption_justify = "left"
    console.print(table)
    if any(row.differences for row in rows):
        console.print(_difference_table(rows, names))
    if parts:
        console.print(f"  all made with {_listed(parts)}\n", soft_wrap=True)
    for row in rows:
        if row.status != "finished":
            job = " ".join(f"{name}={value}" for name, value in row.overrides.items())
            console.print(f"  [red]{escape(row.status)}[/red]  ({escape(job)})", soft_wrap=True)


def _difference_table(rows: Sequence[ComparisonRow], names: Sequence[str]) -> Table:
    """What each row gains or loses against the first one, neuron by neuron."""
    first = " ".join(f"{name}={rows[0].overrides.get(name, '')}" for name in names)
    table = Table(title=f"Differences to {escape(first)}", box=box.SIMPLE_HEAD, title_justify="left")
    metrics = [name for name in (*_COMPARED, LABEL_CHANGE) if any(name in row.differences for row in rows)]
    for name in names:
        table.add_column(escape(name), no_wrap=True)
    for name in metrics:
        table.add_column(escape(re.sub(r"[._]", "\n", name)), justify="right", no_wrap=True)
    for row in rows[1:]:
        cells = [escape(row.overrides.get(name, "")) for name in names]
        for name in metrics:
            found = row.differences.get(name)
            mean = (
                "–"
                if found is None
                else f"{found.mean:.3f}"
                if name == LABEL_CHANGE
                else f"{found.mean:+.3f}"
            )
            cells.append(mean if found is None else f"{mean}\n{_short(found.low)}–{_short(found.high)}")
        table.add_row(*cells)
    table.caption = (
        "paired over neurons and seeds, mean and 95% interval; label change: neurons with other labels"
    )
    table.caption_justify = "left"
    return table


def _listed(parts: Mapping[str, str]) -> str:
    return escape(", ".join(f"{group}={member}" for group, member in parts.items()))


def _comparison_cell(row: ComparisonRow, metric: str) -> str:
    found = row.metrics.get(metric)
    if found is None:
        return "–"
    interval, chance = f"{_short(found.low)}–{_short(found.high)}", _short(row.chance.get(metric))
    return f"[bold]{found.mean:.3f}[/bold]\n{interval}\n[dim]({chance})[/dim]"


def print_link(mlruns: Path, run_id: str, experiment_id: str, console: Console) -> None:
    """Where to look at the run."""
    command = "make ui" if mlruns == Path("mlruns") else f"python -m dnr_bench.tracking {mlruns}"
    console.print(f"[bold]{escape(command)}[/bold] opens MLflow; this run is then at")
    console.print(f"  http://127.0.0.1:5000/#/experiments/{experiment_id}/runs/{run_id}", soft_wrap=True)


def _neuron_table(result: RunResult) -> Table:
    table = Table(title="Neurons", box=box.SIMPLE_HEAD, title_justify="left")
    for column in ("neuron", "label", "score", "truth", "runners-up"):
        table.add_column(column, justify="right" if column == "score" else "left")
    for record in _spread(result.neurons):
        unscored = record["unscored"]
        table.add_row(
            f"{record['layer']}:{record['unit']}",
            f"[dim]{escape(unscored)}[/dim]" if unscored else escape("; ".join(record["labels"])),
            _cell(record["score"]),
            escape(record["truth"] or ""),
            f"[dim]{escape('; '.join(c['text'] for c in record['candidates'][1:4]))}[/dim]",
        )
    return table


def _spread(neurons: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """As many neurons as are shown, spread evenly over the list, so that most layers and kinds appear."""
    step = max(1.0, len(neurons) / _SHOWN_NEURONS)
    return [neurons[int(i * step)] for i in range(min(len(neurons), _SHOWN_NEURONS))]


def _metric_table(result: RunResult) -> Table:
    table = Table(title="Metrics", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("metric", no_wrap=True)
    table.add_column("mean (95% interval)", justify="right", no_wrap=True)
    for column in ("chance", "constant", "norm.", "n"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, values in result.metrics.items():
        interval = f"({_short(values['low'])}–{_short(values['high'])})"
        table.add_row(
            name,
            f"[bold]{_cell(values['mean'])}[/bold] {interval}",
            _short(values["chance"]),
            _short(values["controls"].get("best_constant")),
            _short(values["normalized"]),
            str(values["n"]) + (f"+{values['unscored']}" if values["unscored"] else ""),
        )
    table.caption = (
        "chance: labels dealt at random (or a random choice, or rank); constant: one word for all; "
        "norm.: 0 at chance, 1 at the true labels; n: neurons + those unscored"
    )
    table.caption_justify = "left"
    return table


def _stage_table(result: RunResult) -> Table:
    table = Table(title="Stages", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("stage")
    for column in ("seconds", "from the store", "computed"):
        table.add_column(column, justify="right")
    for name, stage in result.stages.items():
        table.add_row(name, f"{stage['seconds']:.1f}", str(stage["hits"]), str(stage["misses"]))
    table.add_row("all", f"{result.seconds:.1f}", "", "")
    return table


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return "–" if value != value else f"{value:.3f}"
    return escape(str(value))


def _short(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) and value == value else "–"


def _short_path(path: Path) -> str:
    """Relative to the working directory where it lies within."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
