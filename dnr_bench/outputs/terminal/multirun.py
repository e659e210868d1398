"""A multirun in the terminal: a line per job, and the jobs side by side at the end."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from math import isnan
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dnr_bench.outputs.terminal.console import (
    duration,
    escaped,
    listed,
    number_column,
    plain_table,
    print_next,
    short_path,
    text_column,
)
from dnr_bench.outputs.terminal.run import cell, interval, short
from dnr_bench.results.comparison import ComparisonRow, headlines_of, varied_names
from dnr_bench.results.schema import RunResult
from dnr_bench.statistics.paired import FEWEST_TO_TEST, LABEL_CHANGE

_Cell = Callable[[ComparisonRow, str], str]
#: What a column of numbers takes at most: "-0.38 to -0.20" and two spaces.
_COLUMN = 16


def print_job(result: RunResult, folder: Path, left: str, console: Console, verbose: bool = False) -> None:
    """One line on a job of a multirun, and how long the others take (`left`)."""
    main = next(((name, metric) for name, metric in result.metrics.items() if metric.headline), None)
    quality = [f"{main[0]} {cell(main[1].mean)}"] if main else []
    told = [
        *quality,
        f"{len(result.neurons)} neurons in {duration(result.seconds)}",
        *([left] if left else []),
    ]
    console.print(escaped(f"  {' · '.join(told)}"), soft_wrap=True)
    if verbose:
        computed = sum(stage.misses for stage in result.stages.values())
        console.print(f"  {computed} items computed; {escaped(short_path(folder))}", soft_wrap=True)


def print_comparison(
    rows: Sequence[ComparisonRow], choices: Mapping[str, str], console: Console, verbose: bool = False
) -> None:
    """The jobs of a multirun side by side, each metric with its 95% interval.

    By default as many headline metrics as fit beside each other; verbose: all of them, what all jobs share
    (`choices`), and what the jobs took.
    """
    names = varied_names(rows)
    metrics = headlines_of(rows)
    shown = _print_tables("Jobs of this multirun", rows, names, metrics, _value, console, verbose)
    if any(row.differences for row in rows):
        first = rows[0].name(names)
        known = [LABEL_CHANGE, *(metrics if verbose else shown)]
        compared = [name for name in known if any(name in row.differences for row in rows)]
        _print_tables(f"Differences to {first}", rows[1:], names, compared, _difference, console, verbose)
        console.print(
            "Mean over neurons, its 95% interval, and (chance) or P of the paired difference"
            f" (sign flips, Holm; –: fewer than {FEWEST_TO_TEST} neurons cannot tell). from: the smallest"
            " difference that so many neurons show in 80 of 100 single tests. label change: neurons with"
            " another first label.\n"
        )
    if verbose:
        console.print(_costs(rows, names))
        if choices:
            console.print(f"all made with {listed(choices)}\n", soft_wrap=True)
    elif hidden := len(metrics) - len(shown):
        console.print(f"verbose=true shows {hidden} more headline metrics and what each job took\n")
    for row in rows:
        if row.status != "finished":
            job = " ".join(f"{name}={value}" for name, value in row.overrides.items())
            console.print(f"[red]{escaped(row.status)}[/red]  ({escaped(job)})", soft_wrap=True)


def print_next_multirun(words: Sequence[str], console: Console) -> None:
    """The multirun's own words with several seeds, whose neurons are pooled."""
    if not any(word.startswith("seed=") for word in words):
        print_next("pool three seeds for narrower intervals", ["-m", *words, "seed=0,1,2"], console)


def _print_tables(
    title: str,
    rows: Sequence[ComparisonRow],
    names: Sequence[str],
    metrics: Sequence[str],
    content: _Cell,
    console: Console,
    verbose: bool,
) -> list[str]:
    """The metrics in tables as wide as the terminal, the first table alone or all; what has been shown."""
    n = max(1, (console.width - _width(rows, names, console)) // _COLUMN)
    blocks = [list(metrics[start : start + n]) for start in range(0, len(metrics), n)] or [[]]
    shown = blocks if verbose else blocks[:1]
    for number, block in enumerate(shown):
        table = plain_table(title if not number else "")
        for name in names:
            text_column(table, name)
        for name in block:
            number_column(table, re.sub(r"[._]| ", "\n", name))
        for row in rows:
            cells = [content(row, name) for name in block]
            if row.seconds is None and cells:
                cells[0] = "[red]failed[/red]"
            table.add_row(*_values(row, names), *cells)
        console.print(table)
    return [name for block in shown for name in block]


def _width(rows: Sequence[ComparisonRow], names: Sequence[str], console: Console) -> int:
    """How wide the settings are, which may take half of the width."""
    longest = (max([len(name), *(len(row.overrides.get(name, "")) for row in rows)]) + 2 for name in names)
    return min(sum(longest), console.width // 2)


def _costs(rows: Sequence[ComparisonRow], names: Sequence[str]) -> Table:
    table = plain_table("What they took")
    for name in names:
        text_column(table, name)
    for name in ("seconds", "items computed"):
        number_column(table, name)
    for row in rows:
        if row.seconds is not None:
            table.add_row(*_values(row, names), f"{row.seconds:.1f}", str(row.computed))
    return table


def _values(row: ComparisonRow, names: Sequence[str]) -> list[str]:
    return [escaped(row.overrides.get(name, "")) for name in names]


def _value(row: ComparisonRow, metric: str) -> str:
    found = row.metrics.get(metric)
    if found is None:
        return "–"
    ends = interval(found.low, found.high)
    return f"[bold]{found.mean:.3f}[/bold]\n{ends}\n[dim]({short(row.chance.get(metric))})[/dim]"


def _difference(row: ComparisonRow, metric: str) -> str:
    found = row.differences.get(metric)
    if found is None:
        return "–"
    if metric == LABEL_CHANGE:
        return f"{found.mean:.3f}\n{interval(found.low, found.high)}"
    p = "–" if found.clusters < FEWEST_TO_TEST else f"{row.p_holm[metric]:.2g}"
    least = "" if isnan(found.detectable) else f"\n[dim]from {found.detectable:.3f}[/dim]"
    return f"{found.mean:+.3f}\n{interval(found.low, found.high)}\n[dim]P {p}[/dim]{least}"
