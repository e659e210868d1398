"""Writes the page of a finished run anew: dnr-bench report mlruns/runs/<time>.

It reads what the run has left in its folder, and runs nothing that is named there: a folder from elsewhere
is safe to look at.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dnr_bench.app.command_line import CommandParser
from dnr_bench.outputs.pages.run import write_report
from dnr_bench.outputs.pictures import Pictures
from dnr_bench.results.schema import RunResult


def main(words: Sequence[str]) -> int:
    """Write the page of a finished run anew."""
    parser = CommandParser("report", __doc__)
    parser.add_argument("folder", type=Path, help="of the run: mlruns/runs/<time>")
    folder = parser.parse_args(words).folder
    result, pictures = RunResult.read(folder), Pictures.read(folder)
    print(f"written: {write_report(result, pictures, folder)}")
    if not pictures.strips:
        print("there are no pictures in that folder: the run had report=false, or has none to show")
    return 0
