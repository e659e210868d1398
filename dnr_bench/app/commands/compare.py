"""Do runs differ in more than chance? Neuron by neuron, with P values that allow for how many are compared.

    dnr-bench compare RUN_A RUN_B      two runs: what B gains or loses against A
    dnr-bench compare MULTIRUN         every pair of a multirun's jobs, seeds pooled

A run is its id in MLflow (as in the address of its page) or its folder (mlruns/runs/<time>). The result is
printed, and logged to MLflow as a run of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

import rich.table
from rich.console import Console

from dnr_bench.app.command_line import CommandParser
from dnr_bench.data.scorecard import Table
from dnr_bench.infra.errors import UsageError
from dnr_bench.outputs.terminal.console import (
    WIDE,
    console,
    escaped,
    number_column,
    plain_table,
    print_link,
    text_column,
)
from dnr_bench.results.comparison import (
    Job,
    changed_labels,
    first_metric,
    grouped,
    job_folders,
    judged_apart,
    metric_names,
    paired_records,
    read_job,
)
from dnr_bench.statistics.paired import LABEL_CHANGE, SURE, Difference, difference, holm, spread

if TYPE_CHECKING:
    from dnr_bench.outputs.mlflow.tracker import Tracker

#: Columns for wide terminals.
_WIDE_ONLY = ("effect", "detectable")


@dataclass(frozen=True)
class Side:
    """Jobs that differ in nothing but their seed, under a name for people."""

    name: str
    jobs: tuple[Job, ...]


@dataclass(frozen=True)
class PairwiseDifference:
    """One metric of two sides; higher_is_better: None for what has no direction; p_holm: see `_adjusted`."""

    before: str
    after: str
    metric: str
    found: Difference
    higher_is_better: bool | None
    p_holm: float

    def row(self) -> dict[str, object]:
        """The comparison as plain values."""
        found = asdict(self.found)
        return {
            "before": self.before,
            "after": self.after,
            "metric": self.metric,
            "value_before": found.pop("before"),
            "value_after": found.pop("after"),
            "difference": found.pop("mean"),
            **found,
            "p_holm": self.p_holm,
            "higher_is_better": self.higher_is_better,
        }


def compare_sides(sides: Sequence[Side]) -> list[PairwiseDifference]:
    """Every metric of every pair of sides that has it in both, the earlier side before the later one.

    Metrics that different models judged are left out.
    """
    found = []
    for before, after in combinations(sides, 2):
        jobs = [*before.jobs, *after.jobs]
        apart = judged_apart(jobs)
        directions = {name: better for name, better in _directions(jobs).items() if name not in apart}
        left, right = paired_records(before.jobs, after.jobs)
        for metric, direction in {**directions, LABEL_CHANGE: None}.items():
            value = difference(metric, left, right)
            if value is not None:
                found.append(PairwiseDifference(before.name, after.name, metric, value, direction, value.p))
    return _adjusted(found)


def main(words: Sequence[str]) -> int:
    """Compare what the command line names, print it, log it."""
    parser = CommandParser("compare", __doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="MLflow id or folder of a run or multirun")
    parser.add_tracking()
    arguments = parser.parse_args(words)
    from dnr_bench.outputs.mlflow.places import tracking_place
    from dnr_bench.outputs.mlflow.tracker import Tracker

    place = tracking_place(arguments.mlruns, arguments.tracking_uri)
    tracker = Tracker(place, arguments.experiment)
    runs = [name for name in arguments.runs if name != "debug=true"]
    sides = _distinct([(name, side) for name in runs for side in _sides(name, _jobs(name, tracker))])
    if len(sides) < 2:
        raise UsageError(f"{' '.join(runs)} is a single run: name another one to compare it with")
    comparisons = compare_sides(sides)
    if not comparisons:
        raise UsageError("these runs have no neuron with a label or metric in common")
    out = console()
    _print(comparisons, sides, out)
    _print_left_out(comparisons, sides, out)
    tables = [Table("differences", [comparison.row() for comparison in comparisons])]
    if len(sides) == 2:
        rows = changed_labels(*paired_records(sides[0].jobs, sides[1].jobs))
        tables.append(Table("changed_labels", rows))
    title = f"compare {' with '.join(runs)}"
    run_id = tracker.log_tables(title, tables, {"compared": ", ".join(runs)})
    print_link(place, run_id, tracker.experiment_id, out)
    return 0


def _print_left_out(comparisons: Sequence[PairwiseDifference], sides: Sequence[Side], out: Console) -> None:
    """Print which pairs and metrics could not be compared."""
    unpaired = [
        f"{before.name} and {after.name}"
        for before, after in combinations(sides, 2)
        if not any((c.before, c.after) == (before.name, after.name) for c in comparisons)
    ]
    if unpaired:
        out.print(f"[yellow]no neuron in common: {escaped('; '.join(unpaired))}[/yellow]", soft_wrap=True)
    if apart := sorted(judged_apart([job for side in sides for job in side.jobs])):
        out.print(f"[yellow]judged by different models, not compared: {', '.join(apart)}[/yellow]")


def _jobs(name: str, tracker: Tracker) -> list[Job]:
    folder = Path(name)
    if not folder.exists():
        from dnr_bench.outputs.mlflow.jobs import logged_jobs

        return logged_jobs(tracker, name)
    folder = folder.parent if folder.name == "result.json" else folder
    if (folder / "outcome.json").exists():
        return [read_job(folder)]
    return [read_job(job) for job in job_folders(folder)]


def _distinct(sides: Sequence[tuple[str, Side]]) -> list[Side]:
    """The sides, with the name of their run where two are called the same."""
    titles = [side.name for _, side in sides]
    return [
        replace(side, name=f"{run}: {side.name}") if titles.count(side.name) > 1 else side
        for run, side in sides
    ]


def _sides(name: str, jobs: Sequence[Job]) -> list[Side]:
    """A run as one side; a multirun as one for each of its settings."""
    finished = [job for job in jobs if job.result is not None]
    if not finished:
        raise UsageError(f"{name} has no finished job")
    if len(finished) == 1:
        title = " ".join(f"{key}={value}" for key, value in finished[0].overrides.items()) or "defaults"
        return [Side(title, (finished[0],))]
    groups = grouped(finished)
    varied = [
        key
        for key in dict.fromkeys(key for group in groups for key in group[0].overrides)
        if key != "seed" and len({group[0].overrides.get(key) for group in groups}) > 1
    ]
    return [
        Side(" ".join(f"{key}={group[0].overrides.get(key, '')}" for key in varied) or name, tuple(group))
        for group in groups
    ]


def _directions(jobs: Sequence[Job]) -> dict[str, bool | None]:
    """The metrics of the jobs but for those of single kinds of unit, and whether more is better."""
    results = [job.result for job in jobs if job.result is not None]
    return {metric: first_metric(metric, results).higher_is_better for metric in metric_names(results)}


def _adjusted(comparisons: Sequence[PairwiseDifference]) -> list[PairwiseDifference]:
    """P values that allow for all pairs of a metric; with a single pair, for all metrics of it."""
    pairs = {(comparison.before, comparison.after) for comparison in comparisons}
    adjusted = list(comparisons)
    for metric in dict.fromkeys(comparison.metric if len(pairs) > 1 else "" for comparison in comparisons):
        places = [i for i, comparison in enumerate(comparisons) if metric in ("", comparison.metric)]
        for i, p in zip(places, holm([comparisons[i].found.p for i in places]), strict=True):
            adjusted[i] = replace(comparisons[i], p_holm=p)
    return adjusted


def _print(comparisons: Sequence[PairwiseDifference], sides: Sequence[Side], out: Console) -> None:
    """Two sides: a row per metric. More: a table for each metric in which some pair differs."""
    metrics = list(dict.fromkeys(comparison.metric for comparison in comparisons))
    if len(sides) == 2:
        out.print(f"before: [bold]{escaped(sides[0].name)}[/bold]", soft_wrap=True)
        out.print(f"after:  [bold]{escaped(sides[1].name)}[/bold]", soft_wrap=True)
        out.print(_table("", ["metric"], [([c.metric], c) for c in comparisons], out.width >= WIDE))
    else:
        differing = {c.metric for c in comparisons if c.p_holm < SURE}
        for metric in (name for name in metrics if name in differing):
            rows = [([c.before, c.after], c) for c in comparisons if c.metric == metric]
            out.print(_table(metric, ["before", "after"], rows, out.width >= WIDE))
        others = [name for name in metrics if name not in differing]
        out.print(f"No pair differs at P < {SURE} in: {', '.join(others) or '–'}", soft_wrap=True)
    if out.width < WIDE:
        _print_detectable(comparisons, out)
    out.print(
        "Paired over neurons; P by sign flips, adjusted for the number of pairs, or for that of the metrics"
        " of a single pair (Holm), – where nothing was tested; effect in standard deviations of the"
        f" differences (in terminals of {WIDE} columns, and in MLflow); detectable: the smallest difference"
        " that so many neurons show in 80 of 100 single tests; n: neurons (clusters of those with one label),"
        f" or classes, pairs, images. Green: better, red: worse, at P < {SURE}.\n",
        style="dim",
    )


def _print_detectable(comparisons: Sequence[PairwiseDifference], out: Console) -> None:
    """For each metric the smallest difference that would be seen, from the best to the worst pair."""
    ends: dict[str, list[float]] = {}
    for comparison in comparisons:
        if not isnan(comparison.found.detectable):
            ends.setdefault(comparison.metric, []).append(comparison.found.detectable)
    told = [f"{metric} {spread(found)}" for metric, found in ends.items()]
    if told:
        out.print(f"detectable: {escaped(', '.join(told))}", soft_wrap=True)


def _table(
    title: str, names: Sequence[str], rows: Sequence[tuple[list[str], PairwiseDifference]], wide: bool
) -> rich.table.Table:
    """A row per comparison; what needs a wide terminal is in MLflow's table, too."""
    table = plain_table(title)
    for name in names:
        text_column(table, name)
    columns = ["before", "after", "difference", "95% interval", "P", *_WIDE_ONLY, "n"]
    shown = [name for name in columns if wide or name not in _WIDE_ONLY]
    for name in shown:
        number_column(table, name)
    for cells, comparison in rows:
        of_row = _cells(comparison)
        table.add_row(*map(escaped, cells), *(of_row[name] for name in shown))
    return table


def _cells(comparison: PairwiseDifference) -> dict[str, str]:
    f, style = comparison.found, _style(comparison)
    return {
        "before": f"{f.before:.3f}",
        "after": f"{f.after:.3f}",
        "difference": f"[{style}]{f.mean:+.3f}[/{style}]",
        "95% interval": "one cluster" if isnan(f.low) else f"{f.low:+.3f} to {f.high:+.3f}",
        "P": "–" if isnan(comparison.p_holm) else f"{comparison.p_holm:.2g}",
        "effect": "–" if isnan(f.effect) else f"{f.effect:+.2f}",
        "detectable": "–" if isnan(f.detectable) else f"{f.detectable:.3f}",
        "n": f"{f.n} ({f.clusters})",
    }


def _style(comparison: PairwiseDifference) -> str:
    if comparison.higher_is_better is None or not comparison.p_holm < SURE:
        return "default"
    return "green" if (comparison.found.mean > 0) == comparison.higher_is_better else "bold red"
