"""A multirun is one parent run in MLflow; its jobs are nested under it and compared at the end."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from dnr_bench.app.command_line import report
from dnr_bench.app.record import NotLoggedError, kept, open_tracker
from dnr_bench.infra.errors import DnrError, RunError
from dnr_bench.results.comparison import (
    INTERRUPTED,
    axis_of,
    common_choices,
    compare,
    job_folders,
    read_job,
    sweep_name,
)

if TYPE_CHECKING:
    from dnr_bench.outputs.mlflow.tracker import Status, Tracker

#: Carries the parent's id to the jobs, wherever a launcher runs them; empty where MLflow has no parent.
PARENT_VARIABLE = "DNR_BENCH_PARENT_RUN"
#: Carries the settings in which the jobs differ, for their names.
VARIED_VARIABLE = "DNR_BENCH_VARIED"


class ParentRun(Callback):
    """Opens the parent before the first job, and closes it with a comparison after the last."""

    opened: list[ParentRun] = []  # noqa: RUF012  (Hydra makes the callbacks and hands them to nobody)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Hydra calls this before the first job."""
        self.sweep = Path(config.hydra.sweep.dir)
        self.tracker: Tracker | None = None
        os.environ[PARENT_VARIABLE] = ""
        self.opened.append(self)
        try:
            self.tracker = open_tracker(config)
            values = swept(config.hydra.overrides.task)
            os.environ[VARIED_VARIABLE] = " ".join(values)
            from dnr_bench.outputs.mlflow.entries import param_entries

            self.run_id = self.tracker.start(sweep_name(values), params=param_entries(values))
        except DnrError as error:
            self.tracker = None
            print(f"warning: {error}; the jobs go on and are kept on disk", file=sys.stderr)
        else:
            os.environ[PARENT_VARIABLE] = self.run_id

    def close(self) -> None:
        """Log and print the comparison; a job that left no result is a failed one.

        Raises:
            RunError: MLflow does not take it.
        """
        from dnr_bench.outputs.console import console, print_comparison, print_link
        from dnr_bench.outputs.html import without_page, write_comparison

        self.opened.remove(self)
        del os.environ[PARENT_VARIABLE]
        jobs = [read_job(folder) for folder in job_folders(self.sweep)]
        if not jobs:  # what was asked for does not compose: not worth a run
            if self.tracker:
                self.tracker.delete(self.run_id)
            return
        rows = compare(jobs)
        page = None
        with without_page("comparison.html"):
            page = write_comparison(rows, jobs, self.sweep)
        print_comparison(rows, common_choices(jobs), console())
        if self.tracker is None:
            raise NotLoggedError(f"MLflow has not got these runs; {kept(self.sweep)}")
        failures = {job.failure for job in jobs if job.failure is not None}
        status: Status = "KILLED" if INTERRUPTED in failures else "FAILED" if failures else "FINISHED"
        try:
            self.tracker.finish_parent(self.run_id, rows, page, status)
        except RunError as error:
            raise NotLoggedError(f"{error}\n{kept(self.sweep)}") from error
        print_link(
            self.tracker.place,
            self.run_id,
            self.tracker.experiment_id,
            console(),
            jobs=axis_of(rows) is not None,
        )


def swept(words: Sequence[str]) -> dict[str, str]:
    """The settings that a multirun varies, each with its values as they were written."""
    overrides = OverridesParser.create().parse_overrides(list(words))
    return {
        override.get_key_element().lstrip("+~"): str(override.get_value_string())
        for override in overrides
        if override.is_sweep_override()
    }


def close_open_parents() -> list[DnrError]:
    """Close the multiruns of this process, also interrupted ones and those that do not compose.

    Hydra has a callback for the end, too, but calls it at no interruption, and swallows its errors.
    """
    failures: list[DnrError] = []
    for parent in list(ParentRun.opened):
        try:
            parent.close()
        except DnrError as error:
            report(error, debug=False)
            failures.append(error)
    return failures
