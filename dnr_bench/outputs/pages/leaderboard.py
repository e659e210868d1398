"""The leaderboard of a folder as a page, and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dnr_bench.infra.files import writing
from dnr_bench.infra.text_files import markdown_table, markdown_text
from dnr_bench.outputs.pages.page import write_page
from dnr_bench.results.leaderboard import Board, Entry

_NOTE = (
    "Mean and 95% interval; seeds are pooled. Bold: the best, and what a paired test over neurons (sign"
    " flips, Holm, P < .05) does not tell from it. †: nothing pairs it with the best, so it was not tested."
    " Fewer than 6 neurons cannot be told apart. Settings that describe other neurons stand in a table of"
    " their own."
)

_POWER = "Smallest differences to the best that so many neurons show in 80 of 100 single tests:"


def write_leaderboard(boards: Sequence[Board], folder: Path) -> list[Path]:
    """Write leaderboard.html and leaderboard.md into the folder that the runs lie in."""
    paged = {
        run
        for board in boards
        for entry in board.entries
        for run in entry.runs
        if (folder / run / "report.html").exists()
    }
    page = write_page(
        folder / "leaderboard.html",
        "leaderboard.html.j2",
        title="Leaderboard",
        boards=boards,
        note=_NOTE,
        power=_POWER,
        paged=paged,
    )
    path = folder / "leaderboard.md"
    with writing(path) as partial:
        partial.write_text("".join(map(_markdown, boards)) + _NOTE + "\n", encoding="utf-8")
    return [page, path]


def _markdown(board: Board) -> str:
    rows = [
        [entry.name, f"{entry.labeled} of {entry.neurons}", *(_cell(entry, name) for name in board.metrics)]
        for entry in board.entries
    ]
    columns = ["settings", "labeled", *board.metrics]
    power = f"{_POWER} {markdown_text(board.power)}.\n\n" if board.power else ""
    return f"## {markdown_text(board.title)}\n\n{markdown_table(columns, rows)}{power}"


def _cell(entry: Entry, metric: str) -> str:
    found = entry.estimate(metric)
    if found is None:
        return "–"
    mean = f"**{found.mean:.3f}**" if metric in entry.best else f"{found.mean:.3f}"
    return f"{mean}{entry.mark(metric)} ({found.low:.2f} to {found.high:.2f})"
