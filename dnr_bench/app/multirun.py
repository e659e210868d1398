"""A multirun is one parent run in MLflow; its jobs are nested under it and compared at the end."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from dnr_bench.app.command_line import report
from dnr_bench.app.job_sets import claimed, code_digest, jobs_of, n_finished, parsed
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
from dnr_bench.results.progress import JobSet

if TYPE_CHECKING:
    from dnr_bench.outputs.mlflow.tracker import Status, Tracker

#: Carries the parent's id to the jobs, wherever a launcher runs them; empty where MLflow has no parent.
PARENT_VARIABLE = "DNR_BENCH_PARENT_RUN"
#: Carries the settings in which the jobs differ, for their names.
VARIED_VARIABLE = "DNR_BENCH_VARIED"
#: Carries how many jobs there are, and since when they run (seconds since 1970).
JOBS_VARIABLE = "DNR_BENCH_JOBS"


@dataclass(frozen=True)
class Turn:
    """The place of a job among those of its multirun: the first one has number 1.

    n_done: how many were done before the multirun went on; in_order: whether one job is run after the other.
    """

    number: int
    n_jobs: int
    started: float
    n_done: int
    in_order: bool

    @classmethod
    def of(cls, number: int) -> Turn | None:
        """That of the job that Hydra gives this number, from 0 on; None where its multirun says nothing."""
        known = os.environ.get(JOBS_VARIABLE, "").split()
        if not known:
            return None
        return cls(number + 1, int(known[0]), float(known[1]), int(known[2]), known[3] == "in_order")

    def left(self, now: float) -> str:
        """How long the jobs after this one take, if they take as long as those before."""
        from dnr_bench.outputs.terminal.console import time_left

        done = self.number - self.n_done
        if not self.in_order or done < 1:
            return ""
        return time_left(now - self.started, done, self.n_jobs - self.n_done)


class ParentRun(Callback):
    """Opens the parent before the first job, and closes it with a comparison after the last."""

    failed = False
    opened: list[ParentRun] = []  # noqa: RUF012  (Hydra makes the callbacks and hands them to nobody)

    def __getstate__(self) -> dict[str, object]:
        """Launchers send callbacks to other processes, where there is nothing to open or close."""
        return {}

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Hydra calls this before the first job."""
        self.sweep, self.verbose = Path(config.hydra.sweep.dir), bool(config.verbose)
        self.tracker: Tracker | None = None
        self.words = [str(word) for word in config.hydra.overrides.task]
        in_config = (
            OmegaConf.select(config, "hydra.sweeper.params") or {}
        )  # an experiment may say what varies
        asked = [*(f"{key}={value}" for key, value in in_config.items()), *self.words]
        values = swept(asked)
        self._lock = claimed(self.sweep)
        before = JobSet.read(self.sweep)
        jobs = JobSet(
            tuple(self.words), jobs_of(asked), code_digest(sys.argv[1:]), before.parent if before else ""
        )
        in_order = str(config.hydra.launcher._target_).endswith("BasicLauncher")
        if not in_order:  # bars of several jobs would run into each other
            os.environ["TQDM_DISABLE"] = "1"
        os.environ[PARENT_VARIABLE] = ""
        os.environ[VARIED_VARIABLE] = " ".join(values)
        os.environ[JOBS_VARIABLE] = (
            f"{len(jobs.jobs)} {time.time()} {n_finished(self.sweep, jobs)} {'in_order' if in_order else '-'}"
        )
        self.opened.append(self)
        try:
            self.tracker = open_tracker(config)
            self.run_id = self._opened(self.tracker, jobs.parent, values)
        except DnrError as error:
            self.tracker = None
            print(f"warning: {error}; the jobs go on and are kept on disk", file=sys.stderr)
        else:
            os.environ[PARENT_VARIABLE] = self.run_id
        replace(jobs, parent=os.environ[PARENT_VARIABLE]).write(self.sweep)

    def _opened(self, tracker: Tracker, before: str, values: Mapping[str, str]) -> str:
        """The parent's run in MLflow: that of before, or a new one."""
        from dnr_bench.outputs.mlflow.entries import param_entries

        if before and tracker.reopen(before):
            return before
        return tracker.start(sweep_name(values), params=param_entries(values))

    def close(self) -> None:
        """Log and print the comparison; a job that left no result is a failed one.

        Raises:
            RunError: MLflow does not take it.
        """
        from dnr_bench.outputs.pages.multirun import write_comparison
        from dnr_bench.outputs.pages.page import without_page
        from dnr_bench.outputs.terminal.console import console, print_link, print_page
        from dnr_bench.outputs.terminal.multirun import print_comparison, print_next_multirun

        self.opened.remove(self)
        for name in (PARENT_VARIABLE, VARIED_VARIABLE, JOBS_VARIABLE):
            del os.environ[name]
        self._lock.release()
        jobs = [read_job(folder) for folder in job_folders(self.sweep)]
        if not jobs:  # what was asked for does not compose: not worth a run
            if self.tracker:
                self.tracker.delete(self.run_id)
            return
        rows = compare(jobs)
        page = None
        with without_page("comparison.html"):
            page = write_comparison(rows, jobs, self.sweep)
        out = console()
        print_comparison(rows, common_choices(jobs), out, self.verbose)
        if page:
            print_page(page, "The jobs side by side, with plots and the labels that changed", out)
        if self.tracker is None:
            raise NotLoggedError(f"MLflow has not got these runs; {kept(self.sweep)}")
        failures = {job.failure for job in jobs if job.failure is not None}
        self.failed = bool(failures)
        status: Status = "KILLED" if INTERRUPTED in failures else "FAILED" if failures else "FINISHED"
        try:
            self.tracker.finish_parent(self.run_id, rows, page, status)
        except RunError as error:
            raise NotLoggedError(f"{error}\n{kept(self.sweep)}") from error
        done = [folder for folder in job_folders(self.sweep) if (folder / "result.json").is_file()]
        if not_logged := [folder.name for folder in done if not self.tracker.logged(folder)]:
            # jobs in other processes tell of that there
            raise NotLoggedError(f"MLflow has not got job {', '.join(not_logged)}; {kept(self.sweep)}")
        has_charts = axis_of(rows) is not None
        print_link(self.tracker.place, self.run_id, self.tracker.experiment_id, out, has_charts)
        print_next_multirun(self.words, out)


def swept(words: Sequence[str]) -> dict[str, str]:
    """The settings that a multirun varies, each with its values as they were written."""
    return {
        override.get_key_element().lstrip("+~"): str(override.get_value_string())
        for override in parsed(words)
        if override.is_discrete_sweep()
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
        if parent.failed:  # of which its own process has told
            failures.append(RunError("a job has failed"))
    return failures
