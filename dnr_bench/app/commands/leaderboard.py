"""Ranks the settings of all runs in a folder: dnr-bench leaderboard mlruns/runs

It writes leaderboard.html and leaderboard.md there: settings against metrics, with 95% intervals. Seeds are
pooled; of runs with the same settings and seed the latest counts. Bold: the best of a metric, and what a
paired test (sign flips, Holm) does not tell from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dnr_bench.app.command_line import CommandParser
from dnr_bench.outputs.pages.leaderboard import write_leaderboard
from dnr_bench.outputs.terminal.console import console, print_page
from dnr_bench.outputs.terminal.leaderboard import print_board
from dnr_bench.results.leaderboard import leaderboards
from dnr_bench.results.records import records_in


def main(words: Sequence[str]) -> int:
    """Rank the runs that the command line names."""
    parser = CommandParser("leaderboard", __doc__)
    parser.add_argument(
        "folder", type=Path, nargs="?", default=Path("mlruns/runs"), help="with runs, also in folders below"
    )
    folder = parser.parse_args(words).folder
    boards = leaderboards(records_in(folder))
    out = console()
    for board in boards:
        print_board(board, out)
    for page in write_leaderboard(boards, folder):
        print_page(page, "The same as a page" if page.suffix == ".html" else "and as Markdown", out)
    return 0
