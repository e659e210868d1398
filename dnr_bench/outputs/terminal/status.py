"""How far runs are, in the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from dnr_bench.infra.text_files import printable
from dnr_bench.outputs.terminal.console import plain_table, text_column
from dnr_bench.results.progress import RunStatus, State

_COLORS: dict[State, str] = {
    "done": "green",
    "running": "blue",
    "failed": "red",
    "stopped": "yellow",
    "missing": "dim",
}


def print_status(found: Sequence[RunStatus], console: Console) -> None:
    """One row per run, and how many there are of each state."""
    table = plain_table("")
    table.add_column("", justify="right", no_wrap=True)
    text_column(table, "run")
    table.add_column("state", no_wrap=True)
    text_column(table, "where, how far, or why")
    for number, status in enumerate(found):
        state = Text(status.state, _COLORS[status.state])
        table.add_row(str(number), Text(printable(status.title)), state, Text(printable(status.detail)))
    console.print(table)
    counts = Counter(status.state for status in found)
    console.print(", ".join(f"{counts[state]} {state}" for state in _COLORS if counts[state]))
