"""Sends finished runs to MLflow that it has not got: dnr-bench log mlruns/runs/<time> ...

A run is sent from its folder, and a multirun with all its jobs. What MLflow already has is not sent again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dnr_bench.app.command_line import CommandParser
from dnr_bench.infra.errors import UsageError
from dnr_bench.outputs.terminal.console import console, print_link
from dnr_bench.results.comparison import (
    Job,
    Outcome,
    compare,
    job_folders,
    read_job,
    sweep_name,
    values_of,
    varied_names,
)

if TYPE_CHECKING:
    from dnr_bench.outputs.mlflow.tracker import Tracker


def main(words: Sequence[str]) -> int:
    """Log what the command line names."""
    parser = CommandParser("log", __doc__)
    parser.add_argument("runs", nargs="+", metavar="FOLDER", type=Path, help="of a run or a multirun")
    parser.add_tracking()
    arguments = parser.parse_args(words)
    found = [(folder, _jobs(folder)) for folder in arguments.runs]  # their errors before MLflow is asked
    from dnr_bench.outputs.mlflow.places import tracking_place
    from dnr_bench.outputs.mlflow.tracker import Tracker

    tracker = Tracker(tracking_place(arguments.mlruns, arguments.tracking_uri), arguments.experiment)
    tracker.close_abandoned()
    for folder, jobs in found:
        run_id = (
            _log_run(tracker, folder, jobs[folder]) if folder in jobs else _log_all(tracker, folder, jobs)
        )
        print_link(tracker.place, run_id, tracker.experiment_id, console())
    return 0


def _jobs(folder: Path) -> dict[Path, Job]:
    """The run of a folder, or the jobs of the multirun that it is."""
    folders = [folder] if (folder / "result.json").is_file() else job_folders(folder)
    if not folders:
        raise UsageError(f"{folder} is the folder of no run: it has no result.json")
    return {job: read_job(job) for job in folders}


def _log_all(tracker: Tracker, sweep: Path, jobs: dict[Path, Job]) -> str:
    """A multirun: its jobs, and the comparison of them."""
    from dnr_bench.outputs.mlflow.entries import param_entries

    rows = compare(list(jobs.values()))
    values = {name: values_of(rows, name) for name in varied_names(rows)}
    parent = tracker.start(sweep_name(values), params=param_entries(values))
    for folder, job in jobs.items():
        _log_run(tracker, folder, job, parent, tuple(values))
    failed = any(job.failure is not None for job in jobs.values())
    page = sweep / "comparison.html"
    tracker.finish_parent(parent, rows, page if page.is_file() else None, "FAILED" if failed else "FINISHED")
    return parent


def _log_run(
    tracker: Tracker, folder: Path, job: Job, parent: str | None = None, varied: Sequence[str] = ()
) -> str:
    from dnr_bench.outputs.mlflow.entries import params_of

    outcome = Outcome.read(folder)
    name = outcome.name(varied) if outcome else folder.name
    if job.result is None:
        run_id = tracker.start(name, parent=parent)
        tracker.log_failure(run_id, str(job.failure), folder, "FAILED")
        return run_id
    if parent is None and (known := tracker.logged(folder)):
        print(f"MLflow already has {folder}")
        return known
    started = (folder / "result.json").stat().st_mtime - job.result.seconds
    run_id = tracker.start(name, started, parent, params_of(job.result.config, job.choices))
    tracker.log_result(run_id, job.result, folder, job.choices)
    return run_id
