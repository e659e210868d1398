"""Writes the page of a finished run anew: dnr-bench report mlruns/runs/<time>."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from dnr_bench.app.command_line import CommandParser
from dnr_bench.app.configuration import build_run
from dnr_bench.infra.errors import UsageError
from dnr_bench.outputs.html import write_report
from dnr_bench.results.schema import RunResult


def main(words: Sequence[str]) -> int:
    """Write the page of a finished run anew."""
    parser = CommandParser("report", __doc__)
    parser.add_argument("folder", type=Path, help="of the run: mlruns/runs/<time>")
    folder = parser.parse_args(words).folder
    result = RunResult.read(folder)
    if not result.config:
        raise UsageError(f"{folder} is not the folder of a run from the command line: it has no settings")
    session = build_run(OmegaConf.create(dict(result.config))).session()
    print(f"written: {write_report(result, session, folder)}")
    return 0
