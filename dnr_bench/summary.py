"""What a person reads in the terminal: tables of neurons, metrics and stages, and of a multirun's jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dnr_bench.run import RunResult

_SHOWN_NEURONS = 24


def print_result(result: RunResult, folder: Path, console: Console) -> None:
    """The neurons (the first of many), the metrics with intervals, and the time of each stage."""
    console.print(_neuron_table(result))
    hidden = len(result.neurons) - _SHOWN_NEURONS
    if hidden > 0:
        console.print(f"  … and {hidden} more neurons in {folder / 'result.json'} and in MLflow\n")
    unscored = [record for record in result.neurons if record["unscored"]]
    if unscored:
        reasons = sorted({record["unscored"] for record in unscored})
        console.print(f"  without a label: {len(unscored)} ({escape('; '.join(reasons))})\n")
    if result.metrics:
        console.print(_metric_table(result))
    console.print(_stage_table(result))


def print_comparison(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """The jobs of a multirun side by side."""
    table = Table(title="Jobs of this multirun", box=box.SIMPLE_HEAD, title_justify="left")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    for column in columns:
        number = all(isinstance(row.get(column), int | float | None) for row in rows)
        table.add_column(escape(column), justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    console.print(table)


def print_link(mlruns: Path, run_id: str, experiment_id: str, console: Console) -> None:
    """Where to look at the run."""
    console.print(f"[bold]make ui[/bold] opens MLflow on {mlruns}; this run is then at")
    console.print(f"  http://127.0.0.1:5000/#/experiments/{experiment_id}/runs/{run_id}", soft_wrap=True)


def _neuron_table(result: RunResult) -> Table:
    table = Table(title="Neurons", box=box.SIMPLE_HEAD, title_justify="left")
    for column in ("neuron", "label", "score", "truth", "runners-up"):
        table.add_column(column, justify="right" if column == "score" else "left")
    for record in _first_of_each_layer(result.neurons):
        unscored = record["unscored"]
        table.add_row(
            f"{record['layer']}:{record['unit']}",
            f"[dim]{escape(unscored)}[/dim]" if unscored else escape("; ".join(record["labels"])),
            _cell(record["score"]),
            escape(record["truth"] or ""),
            f"[dim]{escape('; '.join(c['text'] for c in record['candidates'][1:4]))}[/dim]",
        )
    return table


def _first_of_each_layer(neurons: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """As many neurons as are shown, spread evenly over the list, so that each layer and kind appears."""
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
        "chance: the same labels dealt at random; constant: one word for all neurons; "
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
