"""A multirun is one parent run in MLflow; its jobs are nested under it and compared at the end."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

#: Carries the parent's id to the jobs, wherever a launcher runs them.
PARENT_VARIABLE = "DNR_BENCH_PARENT_RUN"


class ParentRun(Callback):
    """Opens the parent before the first job, and closes it with a comparison after the last."""

    opened: list[ParentRun] = []  # noqa: RUF012  (Hydra makes the callbacks and hands them to nobody)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Hydra calls this before the first job."""
        from dnr_bench.outputs.mlflow.tracker import Tracker

        self.mlruns, self.sweep = Path(config.paths.mlruns), Path(config.hydra.sweep.dir)
        self.tracker = Tracker(self.mlruns, config.experiment_name)
        self.run_id = self.tracker.start_parent(" ".join(config.hydra.overrides.task) or "multirun")
        os.environ[PARENT_VARIABLE] = self.run_id
        self.opened.append(self)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Hydra calls this after the last job."""
        self.close()

    def close(self) -> None:
        """Log and print the comparison; a job that left no result is a failed one."""
        from dnr_bench.outputs.console import console, print_comparison, print_link
        from dnr_bench.outputs.html import without_page, write_comparison
        from dnr_bench.results.comparison import (
            common_choices,
            compare,
            comparison_plots,
            job_folders,
            read_job,
        )

        self.opened.remove(self)
        del os.environ[PARENT_VARIABLE]
        jobs = [read_job(folder) for folder in job_folders(self.sweep)]
        if not jobs:  # what was asked for does not compose: not worth a run
            self.tracker.delete(self.run_id)
            return
        rows = compare(jobs)
        page = None
        with without_page("comparison.html"):
            page = write_comparison(rows, jobs, self.sweep)
        print_comparison(rows, common_choices(jobs), console())
        failed = any(job.failure is not None for job in jobs)
        self.tracker.finish_parent(
            self.run_id, [row.flat() for row in rows], comparison_plots(rows), page, failed
        )
        print_link(self.mlruns, self.run_id, self.tracker.experiment_id, console())


def close_open_parents() -> None:
    """Close what an interruption or an error has left open, also where a configuration does not compose."""
    for parent in list(ParentRun.opened):
        parent.close()
