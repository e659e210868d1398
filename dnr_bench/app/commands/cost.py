"""What would a run of another size take? dnr-bench cost RUN RUN --neurons 3840 --images 50000

Hours, dollars and disk, fitted to finished runs with the same parts on the same kind of machine. With two
runs of different size the time that models take to load is told from the time per item; with one alone it is
not, and the estimate is too high. Runs that found their stages in the store say nothing: give each a
paths.store of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dnr_bench.app.command_line import CommandParser
from dnr_bench.infra.errors import UsageError
from dnr_bench.outputs.terminal.console import console
from dnr_bench.outputs.terminal.cost import print_cost
from dnr_bench.results.costs import CostModel, size_of
from dnr_bench.results.schema import RunResult


def main(words: Sequence[str]) -> int:
    """Print the estimate that the command line asks for."""
    parser = CommandParser("cost", __doc__)
    parser.add_argument("runs", nargs="+", metavar="FOLDER", type=Path, help="of a finished run")
    parser.add_argument("--neurons", type=int, help="to be described; default: those of the largest run")
    parser.add_argument("--images", type=int, help="of the probing set; default: those of that run")
    parser.add_argument("--images-per-concept", type=int, help="to be drawn; default: those of that run")
    parser.add_argument("--workers", type=int, default=1, help="GPUs or machines that share the work")
    parser.add_argument("--dollars-per-hour", type=float, default=0.0, help="of one worker")
    given = parser.parse_args(words)
    runs = [(RunResult.read(folder), folder) for folder in given.runs]
    known = size_of(max((run for run, _ in runs), key=lambda run: len(run.neurons)))
    asked = {name: getattr(given, name) for name in vars(known) if getattr(given, name) is not None}
    size = replace(known, **asked)
    if min(size.neurons, size.images, given.workers) < 1 or size.images_per_concept < 0:
        raise UsageError("--neurons, --images and --workers must be at least 1")
    if given.dollars_per_hour < 0:
        raise UsageError("--dollars-per-hour must be at least 0")
    model = CostModel.of(runs)
    print_cost(size, model.estimate(size, given.workers), given.workers, given.dollars_per_hour, console())
    return 0
