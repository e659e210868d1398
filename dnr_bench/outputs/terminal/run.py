"""A run in the terminal: its neurons, its metrics, and what it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dnr_bench.data.scorecard import Table as EvaluatorTable
from dnr_bench.data.shard import Shard
from dnr_bench.outputs.terminal.console import (
    WIDE,
    duration,
    escaped,
    listed,
    number_column,
    plain_table,
    print_next,
    short_path,
    text_column,
)
from dnr_bench.results.schema import ChatUsage, MetricResult, NeuronResult, RunResult

#: Neurons that are shown of many, by default and with `verbose`.
_SHOWN, _SHOWN_IN_DETAIL = 12, 48
#: Rows of an evaluator's table, where there are no labels to show.
_SHOWN_ROWS = 60
#: Labels that cost nothing, and what people are told where they do as well as the neurons' own.
_COSTLESS = {
    "best_constant": "one word or label for all neurons does",
    "copy": "the captions of the highest exemplars do",
}
#: Stages that are named beside the duration: those that took at least this part of it.
_NAMED_SHARE = 0.1


def print_result(
    result: RunResult, folder: Path, choices: Mapping[str, str], console: Console, verbose: bool = False
) -> None:
    """The neurons (some of many), the headline metrics with intervals, and the time.

    verbose: all metrics with everything that they are held against, all stages, and the parts.
    """
    if result.is_unlabeled_on_purpose:
        for table in result.tables:
            console.print(_table_of(table))
    else:
        _print_neurons(result, folder, console, verbose)
    if skipped := result.probe.skipped:
        where = f"{short_path(folder)}/result.json lists them"
        console.print(f"{len(skipped)} images of the probing set could not be read ({where})", soft_wrap=True)
    shown = {name: metric for name, metric in result.metrics.items() if verbose or metric.headline}
    if shown := shown or dict(result.metrics):
        beaten = {control: result.beaten_by(control) for control in _COSTLESS}
        console.print(_metric_table(shown, beaten, verbose))
        for note in _notes(result, shown, beaten, verbose):
            console.print(note)
    if verbose:
        console.print(_stage_table(result))
        console.print(f"made with {listed(choices)}\n", soft_wrap=True)
    for part, used in result.usage.items():
        console.print(usage_line(part, used), soft_wrap=True)
    console.print(_summary(result, len(shown)), soft_wrap=True)


def print_next_run(words: Sequence[str], choices: Mapping[str, str], console: Console) -> None:
    """The run's own words, with something varied; choices: the run's members of config groups."""
    scored = choices.get("method", "describe") == "describe" and choices.get("generator") != "none"
    if not scored or any(word.startswith(("scorer=", "scorer.")) for word in words):
        rest = [word for word in words if not word.startswith("seed=")]
        print_next("three seeds side by side", ["-m", *rest, "seed=0,1,2"], console)
    else:
        rest = [word for word in words if not word.startswith("blur=")]
        varied = ["-m", *rest, "scorer=topk_log,semantic", "blur=0,2,4"]
        print_next("compare two scorers on clear and blurred images", varied, console)


def print_shard(n_neurons: int, seconds: float, shard: Shard, words: Sequence[str], console: Console) -> None:
    """What a shard has done, and what follows when all have."""
    console.print(
        f"shard {shard}: {n_neurons} neurons in {duration(seconds)}; results come with the run that follows"
    )
    rest = [word for word in words if not word.startswith("shard=")]
    print_next(f"when all {shard.n} shards are done, the run itself", rest, console)


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


def cell(value: float | None) -> str:
    """A mean with all the digits that are shown of it."""
    if value is None or value != value:
        return "–"
    return f"{value:.2g}" if 0 < abs(value) < 0.001 else f"{value:.3f}"


def short(value: float | None) -> str:
    """A number that a mean is held against."""
    return "–" if value is None or value != value else f"{value:.2f}"


def interval(low: float, high: float) -> str:
    """The ends of an interval."""
    return f"{short(low)}{' to ' if low < 0 else '–'}{short(high)}"


def _summary(result: RunResult, n_shown: int) -> str:
    """How much was described, how long it took, what took the time, and how to see more."""
    longest = sorted(result.stages.items(), key=lambda item: -item[1].seconds)
    named = [
        f"{name} {duration(stage.seconds)}"
        for name, stage in longest
        if stage.seconds >= _NAMED_SHARE * result.seconds
    ]
    shares = f", of which {', '.join(named)}" if named else ""
    more = f"verbose=true shows all {len(result.metrics)} metrics and the stages\n"
    more = more if n_shown < len(result.metrics) else ""
    return f"{len(result.neurons)} neurons in {duration(result.seconds)}{shares}\n{more}"


def _print_neurons(result: RunResult, folder: Path, console: Console, verbose: bool) -> None:
    shown = _spread(result.neurons, _SHOWN_IN_DETAIL if verbose else _SHOWN)
    console.print(_neuron_table(result, shown, verbose or console.width >= WIDE))
    if unscored := result.unscored:
        reasons = sorted({neuron.unscored for neuron in unscored if neuron.unscored})
        console.print(f"{len(unscored)} without a label: {escaped('; '.join(reasons))}")


def _neuron_table(result: RunResult, shown: Sequence[NeuronResult], with_runners_up: bool) -> Table:
    n = len(result.neurons)
    title = "Neurons" if len(shown) == n else f"Neurons ({len(shown)} of {n}, evenly spread)"
    table = plain_table(title)
    has_truth = any(neuron.truth for neuron in shown)
    text_column(table, "neuron")
    text_column(table, "label")
    number_column(table, "score")
    for name in [*(["truth"] if has_truth else []), *(["runners-up"] if with_runners_up else [])]:
        text_column(table, name)
    for neuron in shown:
        runners_up = "; ".join(neuron.runners_up.split("; ")[:3])
        table.add_row(
            escaped(neuron.name),
            f"[dim]{escaped(neuron.unscored)}[/dim]"
            if neuron.unscored
            else f"[bold]{escaped(neuron.answer)}[/bold]",
            cell(neuron.score),
            *([escaped(neuron.truth or "")] if has_truth else []),
            *([f"[dim]{escaped(runners_up)}[/dim]"] if with_runners_up else []),
        )
    return table


def _spread(neurons: Sequence[NeuronResult], most: int) -> list[NeuronResult]:
    """At most so many neurons, spread evenly over the list, so that most layers and kinds appear."""
    step = max(1.0, len(neurons) / most)
    return [neurons[int(i * step)] for i in range(min(len(neurons), most))]


def _table_of(found: EvaluatorTable) -> Table:
    """What an evaluator lists, the first of many rows."""
    columns = list(dict.fromkeys(name for row in found.rows for name in row))
    table = plain_table(found.name)
    for name in columns:
        is_number = all(isinstance(row.get(name), int | float) for row in found.rows)
        (number_column if is_number else text_column)(table, name)
    for row in found.rows[:_SHOWN_ROWS]:
        cells = (row.get(name) for name in columns)
        table.add_row(
            *(f"{c:.4g}" if isinstance(c, float) else "" if c is None else escaped(str(c)) for c in cells)
        )
    if len(found.rows) > _SHOWN_ROWS:
        table.caption = f"… and {len(found.rows) - _SHOWN_ROWS} more in result.json and in MLflow"
    return table


def _metric_table(
    shown: Mapping[str, MetricResult], beaten: Mapping[str, Sequence[str]], verbose: bool
) -> Table:
    """beaten: of each control the metrics in which it does as well as the labels."""
    table = plain_table("Metrics")
    text_column(table, "metric")
    number_column(table, "mean (95% interval)")
    others = ("chance", "constant", "copy", "oracle", "norm.", "n") if verbose else ("chance", "copy", "n")
    for column in others:
        number_column(table, column)
    for name, metric in shown.items():
        controls = [control for control, names in beaten.items() if name in names]
        cells = _cells_beside(metric, controls)
        table.add_row(escaped(name), _mean(metric), *(cells[column] for column in others))
    return table


def _notes(
    result: RunResult,
    shown: Mapping[str, MetricResult],
    beaten: Mapping[str, Sequence[str]],
    verbose: bool,
) -> list[str]:
    """Where labels that cost nothing do as well; with `verbose` also what columns mean, and the judges."""
    notes = []
    for control, does in _COSTLESS.items():
        if names := [name for name in beaten[control] if name in shown]:
            notes.append(f"! {does} as well as the labels, or better: {', '.join(names)}")
    return [_legend(), *notes, *_judges(result)] if verbose else notes


def _legend() -> str:
    return (
        "chance: labels dealt at random (or a random choice, or rank); constant: one word or label for all;"
        " copy: the caption of the highest exemplar; oracle: the true labels; norm.: 0 at chance, 1 at"
        " oracle; n: neurons (or classes, images) + unscored"
    )


def _judges(result: RunResult) -> list[str]:
    judged: dict[str, list[str]] = {}
    for name, metric in result.metrics.items():
        if metric.judge:
            judged.setdefault(metric.judge, []).append(name.rsplit(".", 1)[-1])
    if not judged:
        return []
    told = "; ".join(f"{', '.join(dict.fromkeys(names))} by {judge}" for judge, names in judged.items())
    return [f"models that judge, whose figures compare with no other's: {escaped(told)}"]


def _mean(metric: MetricResult) -> str:
    ends = "" if isnan(metric.low) else f" ({interval(metric.low, metric.high)})"
    return f"[bold]{cell(metric.mean)}[/bold]{ends}"


def _cells_beside(metric: MetricResult, beaten: Sequence[str]) -> dict[str, str]:
    """What the mean is held against, by column; beaten: the costless labels that do as well."""
    constant, copy = (
        f"[bold red]{short(metric.controls.get(control))} ![/bold red]"
        if control in beaten
        else short(metric.controls.get(control))
        for control in _COSTLESS
    )
    return {
        "chance": short(metric.chance),
        "constant": constant,
        "copy": copy,
        "oracle": short(metric.oracle),
        "norm.": short(metric.normalized),
        "n": str(metric.n) + (f"+{metric.unscored}" if metric.unscored else ""),
    }


def _stage_table(result: RunResult) -> Table:
    table = plain_table("Stages")
    text_column(table, "stage")
    for column in ("seconds", "from the store", "computed"):
        number_column(table, column)
    for name, stage in result.stages.items():
        table.add_row(name, f"{stage.seconds:.1f}", str(stage.hits), str(stage.misses))
    return table
