"""Shows how far the jobs of a multirun are: dnr-bench status mlruns/runs/<time>

Done, running (where, and how many items of each stage), failed (why), stopped (its process is gone) or
missing (not begun). The same command line as before goes on with what is not done. Without a folder: the
latest multirun in mlruns/runs. The folder of a single run, or one of several runs, will do as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dnr_bench.app.command_line import CommandParser
from dnr_bench.infra.errors import UsageError
from dnr_bench.outputs.terminal.console import console, escaped, short_path
from dnr_bench.outputs.terminal.status import print_status
from dnr_bench.results.progress import JobSet, RunStatus, run_status, set_status

_RUNS = Path("mlruns/runs")


def main(words: Sequence[str]) -> int:
    """Show what the command line names; the exit code is 0 where all is done, else 1."""
    parser = CommandParser("status", __doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="of a multirun, a run, or several runs")
    folder = parser.parse_args(words).folder or _latest(_RUNS)
    title, found = _found(folder)
    out = console()
    out.print(f"{escaped(title)}\n  [dim]{escaped(short_path(folder))}[/dim]")
    print_status(found, out)
    return 0 if Counter(status.state for status in found)["done"] == len(found) else 1


def _latest(runs: Path) -> Path:
    sets = sorted(path.parent for path in runs.glob("*/set.json"))
    if not sets:
        raise UsageError(f"{runs} has no multirun: name a folder")
    return sets[-1]


def _found(folder: Path) -> tuple[str, list[RunStatus]]:
    jobs = JobSet.read(folder)
    if jobs is not None:
        return jobs.title, set_status(folder, jobs)
    runs = [path for path in (folder, *sorted(folder.glob("*"))) if _is_run(path)]
    if not runs:
        raise UsageError(f"{folder} is the folder of no run or multirun")
    return f"{len(runs)} runs" if len(runs) > 1 else "one run", [run_status(path) for path in runs]


def _is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("outcome.json", "progress.json"))
