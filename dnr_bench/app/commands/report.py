"""Writes the page of a finished run anew, or of two runs side by side: dnr-bench report mlruns/runs/<time>.

It reads what the runs have left in their folders, and runs nothing that is named there: a folder from
elsewhere is safe to look at.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from dnr_bench.app.command_line import CommandParser
from dnr_bench.infra.errors import UsageError
from dnr_bench.outputs.pages.card import write_card
from dnr_bench.outputs.pages.run import Side, write_pair, write_report
from dnr_bench.outputs.pictures import Pictures
from dnr_bench.results.schema import RunResult


def main(words: Sequence[str]) -> int:
    """Write the page of a finished run, or that of two."""
    parser = CommandParser("report", __doc__)
    parser.add_argument("folder", type=Path, help="of the run: mlruns/runs/<time>, or a job of a multirun")
    parser.add_argument(
        "other",
        type=Path,
        nargs="?",
        help="of a second run: a page of both, neuron by neuron, in the first folder",
    )
    parser.add_argument(
        "--card", metavar="NEURON", help="write one neuron as an SVG picture in place of the page: concepts:9"
    )
    arguments = parser.parse_args(words)
    folder, other = arguments.folder, arguments.other
    result, pictures = RunResult.read(folder), Pictures.read(folder)
    if arguments.card is not None and other is not None:
        raise UsageError("--card takes one run")
    if arguments.card is not None:
        name = re.sub(r"[^A-Za-z0-9.]+", "-", arguments.card)
        page = write_card(Side.of(folder, result, pictures), arguments.card, folder / f"card-{name}.svg")
    elif other is None:
        page = write_report(result, pictures, folder)
    else:
        first = Side.of(folder, result, pictures)
        second = Side.of(other, RunResult.read(other), Pictures.read(other), prefix="b")
        page = write_pair(first, second, folder / "side_by_side.html")
    print(f"written: {page}")
    if not pictures.strips:
        print("there are no pictures in that folder: the run had report=false, or has none to show")
    return 0
