"""A leaderboard in the terminal."""

from __future__ import annotations

import re

from rich.console import Console

from dnr_bench.outputs.terminal.console import escaped, number_column, plain_table, text_column
from dnr_bench.outputs.terminal.run import interval
from dnr_bench.results.leaderboard import Board, Entry

#: What a column of a metric and the settings take at most.
_COLUMN, _SETTINGS = 13, 38


def print_board(board: Board, console: Console) -> None:
    """As many metrics as fit beside each other; the page has all."""
    table = plain_table(board.title)
    text_column(table, "settings")
    number_column(table, "labeled")
    shown = board.metrics[: max(1, (console.width - _SETTINGS) // _COLUMN)]
    for name in shown:
        number_column(table, re.sub(r"[._]", "\n", name))
    for entry in board.entries:
        seeds = f" [dim]({len(entry.runs)} seeds)[/dim]" if len(entry.runs) > 1 else ""
        labeled = f"{entry.labeled} of\n{entry.neurons}"
        table.add_row(f"{escaped(entry.name)}{seeds}", labeled, *(_cell(entry, name) for name in shown))
    console.print(table)
    if board.power:
        console.print(
            "smallest differences to the best that so many neurons show in 80 of 100 single tests:"
            f" {escaped(board.power)}\n",
            style="dim",
        )
    if board.left_out:
        console.print(f"judged by different models, not ranked: {escaped(', '.join(board.left_out))}\n")


def _cell(entry: Entry, metric: str) -> str:
    found = entry.estimate(metric)
    if found is None:
        return "–"
    mean = f"[bold]{found.mean:.3f}[/bold]" if metric in entry.best else f"{found.mean:.3f}"
    return f"{mean}{entry.mark(metric)}\n[dim]{interval(found.low, found.high)}[/dim]"
