"""Tables in the terminal: neurons, metrics and stages of a run, and the jobs of a multirun."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dnr_bench.data.scorecard import Table as EvaluatorTable
from dnr_bench.infra.shipped import CONF
from dnr_bench.infra.text_files import printable
from dnr_bench.results.comparison import ComparisonRow, headlines_of, varied_names
from dnr_bench.results.schema import ChatUsage, MetricResult, NeuronResult, RunResult
from dnr_bench.statistics.intervals import Estimate
from dnr_bench.statistics.paired import LABEL_CHANGE

if TYPE_CHECKING:
    from dnr_bench.outputs.mlflow.places import Place

_SHOWN_NEURONS = 24
#: Rows of an evaluator's table, where there are no labels to show.
_SHOWN_ROWS = 60
#: Labels that cost nothing, and what people are told where they do as well as the neurons' own.
_COSTLESS = {
    "best_constant": "one word or label for all neurons does",
    "copy": "the captions of the highest exemplars do",
}
_WIDTH_OF_LOGS = 120


def console() -> Console:
    """The terminal; where output goes to a file or a pipe, wide enough for the tables."""
    found = Console()
    return found if found.is_terminal else Console(width=_WIDTH_OF_LOGS)


def escaped(text: str) -> str:
    """Text of models, files and users for the terminal: neither markup nor control characters."""
    return escape(printable(text))


def print_result(result: RunResult, folder: Path, choices: Mapping[str, str], console: Console) -> None:
    """The neurons (the first of many), the metrics with intervals, and the time of each stage."""
    if result.is_unlabeled_on_purpose:
        for table in result.tables:
            console.print(_plain_table(table))
    else:
        _print_neurons(result, folder, console)
    if skipped := result.probe.skipped:
        console.print(
            f"  {len(skipped)} images of the probing set could not be read ({_short_path(folder)}/result.json"
            " lists them)\n",
            soft_wrap=True,
        )
    if result.metrics:
        console.print(_metric_table(result))
    console.print(_stage_table(result))
    for part, used in result.usage.items():
        console.print(f"  {usage_line(part, used)}\n", soft_wrap=True)
    console.print(f"  made with {_listed(choices)}\n", soft_wrap=True)


def _print_neurons(result: RunResult, folder: Path, console: Console) -> None:
    console.print(_neuron_table(result))
    hidden = len(result.neurons) - _SHOWN_NEURONS
    if hidden > 0:
        console.print(
            f"  … and {hidden} more in {_short_path(folder)}/result.json and in MLflow\n",
            soft_wrap=True,
        )
    if unscored := result.unscored:
        reasons = sorted({neuron.unscored for neuron in unscored if neuron.unscored})
        console.print(f"  without a label: {len(unscored)} ({escaped('; '.join(reasons))})\n")


def _plain_table(found: EvaluatorTable) -> Table:
    """What an evaluator lists, the first of many rows."""
    columns = list(dict.fromkeys(name for row in found.rows for name in row))
    table = Table(title=escaped(found.name), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        is_number = all(isinstance(row.get(name), int | float) for row in found.rows)
        table.add_column(escaped(name), justify="right" if is_number else "left")
    for row in found.rows[:_SHOWN_ROWS]:
        cells = (row.get(name) for name in columns)
        table.add_row(
            *(f"{c:.4g}" if isinstance(c, float) else "" if c is None else escaped(str(c)) for c in cells)
        )
    if len(found.rows) > _SHOWN_ROWS:
        table.caption = f"… and {len(found.rows) - _SHOWN_ROWS} more in result.json and in MLflow"
    return table


def usage_line(part: str, used: ChatUsage) -> str:
    """One line on the questions that a part asked a chat model."""
    known = used.prompt_tokens is not None and used.completion_tokens is not None
    tokens = (
        int((used.prompt_tokens or 0) + (used.completion_tokens or 0)) if known else "an unknown number of"
    )
    money = f", {used.dollars:.4f} dollars" if used.dollars else ""
    refused = f"; {int(used.refused)} were refused" if used.refused else ""
    return (
        f"{part} asked {escaped(used.model)} {int(used.asked)} questions ({tokens} tokens{money});"
        f" {int(used.stored)} answers came from the store{refused}"
    )


def print_job(result: RunResult, folder: Path, left: str, console: Console) -> None:
    """One line on a job of a multirun, and how long the others take (`left`); its tables are in MLflow."""
    computed = sum(stage.misses for stage in result.stages.values())
    probed = "activations" in result.stages and result.stages["activations"].misses
    passes = "one probing pass" if probed else "no probing pass"
    console.print(
        f"  {len(result.neurons)} neurons in {result.seconds:.1f} s, {passes}, {computed} items computed; "
        f"{_short_path(folder)}{f'; {left}' if left else ''}",
        soft_wrap=True,
    )


def print_comparison(rows: Sequence[ComparisonRow], choices: Mapping[str, str], console: Console) -> None:
    """The jobs of a multirun side by side, each metric with its 95% interval; `choices`: what all share."""
    names = varied_names(rows)
    shared, further = _headlines(rows)
    console.print(_jobs_table(rows, names, shared))
    if further:
        console.print(_further_table(rows, names, further))
    if any(row.differences for row in rows):
        console.print(_difference_table(rows, names))
    if choices:
        console.print(f"  all made with {_listed(choices)}\n", soft_wrap=True)
    for row in rows:
        if row.status != "finished":
            job = " ".join(f"{name}={value}" for name, value in row.overrides.items())
            console.print(f"  [red]{escaped(row.status)}[/red]  ({escaped(job)})", soft_wrap=True)


def _headlines(rows: Sequence[ComparisonRow]) -> tuple[list[str], list[str]]:
    """The headline metrics that all finished rows have, and those that only some have."""
    finished = [row for row in rows if row.metrics]
    names = headlines_of(rows)
    shared = [name for name in names if all(name in row.metrics for row in finished)]
    return shared, [name for name in names if name not in shared]


def _jobs_table(rows: Sequence[ComparisonRow], names: Sequence[str], metrics: Sequence[str]) -> Table:
    table = _comparison_table("Jobs of this multirun", names, metrics)
    for name in ("computed", "seconds"):
        table.add_column(name, justify="right")
    for row in rows:
        if row.seconds is None:
            table.add_row(*_values_of(row, names), "[red]failed[/red]")
            continue
        cells = [_comparison_cell(row, name) for name in metrics]
        table.add_row(*_values_of(row, names), *cells, str(row.computed), f"{row.seconds:.1f}")
    table.caption = "mean over neurons, its 95% interval, and (chance); more in comparison.json in MLflow"
    return table


def _further_table(rows: Sequence[ComparisonRow], names: Sequence[str], metrics: Sequence[str]) -> Table:
    """Headline metrics that only some jobs have, such as those of refinement and of the user's concepts."""
    table = _comparison_table("What only some jobs have", names, metrics)
    for row in rows:
        if not row.metrics.keys().isdisjoint(metrics):
            table.add_row(*_values_of(row, names), *(_comparison_cell(row, name) for name in metrics))
    return table


def _difference_table(rows: Sequence[ComparisonRow], names: Sequence[str]) -> Table:
    """The difference of each row to the first one, neuron by neuron."""
    first = " ".join(f"{name}={rows[0].overrides.get(name, '')}" for name in names)
    known = [*headlines_of(rows), LABEL_CHANGE]
    metrics = [name for name in known if any(name in row.differences for row in rows)]
    table = _comparison_table(f"Differences to {escaped(first)}", names, metrics)
    for row in rows[1:]:
        table.add_row(*_values_of(row, names), *(_difference_cell(row, name) for name in metrics))
    table.caption = (
        "paired over neurons and seeds: mean, 95% interval, and P adjusted for the rows (sign flips, Holm);"
        " label change: neurons with another first label"
    )
    return table


def _comparison_table(title: str, names: Sequence[str], metrics: Sequence[str]) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", caption_justify="left")
    for name in names:
        table.add_column(escaped(name), no_wrap=True)
    for name in metrics:
        table.add_column(escaped(re.sub(r"[._]", "\n", name)), justify="right", no_wrap=True)
    return table


def _values_of(row: ComparisonRow, names: Sequence[str]) -> list[str]:
    return [escaped(row.overrides.get(name, "")) for name in names]


def _difference_cell(row: ComparisonRow, metric: str) -> str:
    found = row.differences.get(metric)
    if found is None:
        return "–"
    if metric == LABEL_CHANGE:
        return f"{found.mean:.3f}\n{_interval(found)}"
    return f"{found.mean:+.3f}\n{_interval(found)}\n[dim]P {row.p_holm[metric]:.2g}[/dim]"


def _listed(choices: Mapping[str, str]) -> str:
    return escaped(", ".join(f"{group}={member}" for group, member in choices.items()))


def _comparison_cell(row: ComparisonRow, metric: str) -> str:
    found = row.metrics.get(metric)
    if found is None:
        return "–"
    chance = _short(row.chance.get(metric))
    return f"[bold]{found.mean:.3f}[/bold]\n{_interval(found)}\n[dim]({chance})[/dim]"


def _interval(found: Estimate | MetricResult) -> str:
    to = " to " if found.low < 0 else "–"
    return f"{_short(found.low)}{to}{_short(found.high)}"


def print_link(place: Place, run_id: str, experiment_id: str, console: Console, jobs: bool = False) -> None:
    """Where to look at the run; `jobs`: of a multirun at charts of its jobs."""
    page = f"#/experiments/{experiment_id}/runs"
    page += f"?viewStateShareKey={run_id}&compareRunsMode=CHART" if jobs else f"/{run_id}"
    what, are = ("these runs", "are") if jobs else ("this run", "is")
    if place.is_server:
        address = f"{place.shown.rstrip('/')}/{page}"
        console.print(f"MLflow shows {what} at\n  {escaped(address)}", soft_wrap=True)
        return
    mlruns = place.mlruns
    usual, in_checkout = mlruns == Path("mlruns"), CONF.parent == Path.cwd()
    command = "make ui" if usual and in_checkout else "dnr-bench ui" if usual else f"dnr-bench ui {mlruns}"
    if place.database != mlruns.resolve() / "mlflow.db":
        command = f"MLFLOW_TRACKING_URI={place.shown} dnr-bench ui"
    console.print(f"[bold]{escaped(command)}[/bold] opens MLflow; {what} {are} then at", soft_wrap=True)
    console.print(f"  http://127.0.0.1:5000/{page}", soft_wrap=True)


def print_page(page: Path, console: Console) -> None:
    """Where the pictures are."""
    console.print(
        f"  [bold]{escaped(_short_path(page))}[/bold] shows every neuron with its pictures\n", soft_wrap=True
    )


def _dim(text: str) -> str:
    return f"[dim]{escaped(text)}[/dim]"


def _neuron_table(result: RunResult) -> Table:
    table = Table(title="Neurons", box=box.SIMPLE_HEAD, title_justify="left")
    for column in ("neuron", "label", "score", "truth", "runners-up"):
        table.add_column(column, justify="right" if column == "score" else "left")
    for neuron in _spread(result.neurons):
        runners_up = "; ".join(candidate.text for candidate in neuron.candidates[1:4])
        table.add_row(
            neuron.name,
            f"[dim]{escaped(neuron.unscored)}[/dim]"
            if neuron.unscored
            else escaped("; ".join(neuron.labels)),
            _cell(neuron.score),
            escaped(neuron.truth or ""),
            _dim(runners_up),
        )
    return table


def _spread(neurons: Sequence[NeuronResult]) -> list[NeuronResult]:
    """As many neurons as are shown, spread evenly over the list, so that most layers and kinds appear."""
    step = max(1.0, len(neurons) / _SHOWN_NEURONS)
    return [neurons[int(i * step)] for i in range(min(len(neurons), _SHOWN_NEURONS))]


def _metric_table(result: RunResult) -> Table:
    table = Table(title="Metrics", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("metric", no_wrap=True)
    table.add_column("mean (95% interval)", justify="right", no_wrap=True)
    for column in ("chance", "constant", "copy", "oracle", "norm.", "n"):
        table.add_column(column, justify="right", no_wrap=True)
    beaten = {control: result.beaten_by(control) for control in _COSTLESS}
    for name, metric in result.metrics.items():
        table.add_row(*_metric_cells(name, metric, [c for c, names in beaten.items() if name in names]))
    table.caption = (
        "chance: labels dealt at random (or a random choice, or rank); constant: one word or label for all; "
        "copy: the caption of the highest exemplar; oracle: the true labels; norm.: 0 at chance, 1 at "
        "oracle; n: neurons (or classes, images) + unscored"
    )
    for control, names in beaten.items():
        if names:
            table.caption += f"\n! {_COSTLESS[control]} as well as the labels, or better: {', '.join(names)}"
    judged: dict[str, list[str]] = {}
    for name, metric in result.metrics.items():
        if metric.judge:
            judged.setdefault(metric.judge, []).append(name.rsplit(".", 1)[-1])
    if judged:
        listed = "; ".join(f"{', '.join(dict.fromkeys(names))} by {judge}" for judge, names in judged.items())
        table.caption += f"\nmodels that judge, whose figures compare with no other's: {escaped(listed)}"
    table.caption_justify = "left"
    return table


def _metric_cells(name: str, metric: MetricResult, beaten: Sequence[str]) -> list[str]:
    costless = {control: _short(metric.controls.get(control)) for control in _COSTLESS}
    interval = "" if isnan(metric.low) else f" ({_interval(metric)})"
    return [
        name,
        f"[bold]{_cell(metric.mean)}[/bold]{interval}",
        _short(metric.chance),
        *(
            f"[bold red]{text} ![/bold red]" if control in beaten else text
            for control, text in costless.items()
        ),
        _short(metric.oracle),
        _short(metric.normalized),
        str(metric.n) + (f"+{metric.unscored}" if metric.unscored else ""),
    ]


def _stage_table(result: RunResult) -> Table:
    table = Table(title="Stages", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("stage")
    for column in ("seconds", "from the store", "computed"):
        table.add_column(column, justify="right")
    for name, stage in result.stages.items():
        table.add_row(name, f"{stage.seconds:.1f}", str(stage.hits), str(stage.misses))
    table.add_row("all", f"{result.seconds:.1f}", "", "")
    return table


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return "–" if value != value else f"{value:.2g}" if 0 < abs(value) < 0.001 else f"{value:.3f}"
    return escaped(str(value))


def _short(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) and value == value else "–"


def _short_path(path: Path) -> str:
    """Relative to the working directory where it lies within."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
