"""Logs runs, multiruns and studies to an SQLite database and an artifact folder."""

from __future__ import annotations

import getpass
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import mlflow
from mlflow.entities import Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import (
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_RUN_NOTE,
    MLFLOW_SOURCE_NAME,
    MLFLOW_SOURCE_TYPE,
    MLFLOW_USER,
)

from dnr_bench.data.scorecard import Table
from dnr_bench.data.stages import StageCount
from dnr_bench.infra.errors import DnrError, RunError
from dnr_bench.outputs.mlflow.contents import Rows, log_contents, log_drawn_table, log_table, upload
from dnr_bench.outputs.mlflow.entries import (
    comparison_note,
    metric_entries,
    metrics_of_best,
    param_entries,
    section,
    stage_metrics,
)
from dnr_bench.outputs.mlflow.places import VARIABLE, Place, prepared, unusable
from dnr_bench.outputs.mlflow.run_locks import HOST, LOCK, RunLocks
from dnr_bench.outputs.mlflow.views import TAG, view_of_jobs
from dnr_bench.outputs.plots import draw
from dnr_bench.results.comparison import ComparisonRow, axis_of, comparison_plots, headlines_of
from dnr_bench.results.schema import RunResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Status = Literal["FINISHED", "FAILED", "KILLED"]

#: The tag by which a run tells which result it holds.
_RESULT = "dnr_bench.result"

#: Characters of a run's name; the UI shows fewer.
_LONGEST_NAME = 200
#: Without it the UI takes the runs for those of a language model.
_KIND = {"mlflow.experimentKind": "custom_model_development"}


class Tracker:
    """Logs runs to a place of MLflow's.

    Raises:
        RunError: the place cannot be used.
    """

    def __init__(self, place: Place, experiment: str) -> None:
        self.place, self.uri = place, place.uri
        logging.getLogger("alembic").setLevel(logging.WARNING)
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)  # an interruption is no defect
        _set_current(self.uri)
        with prepared(place), self._helpful():
            self.client = MlflowClient(self.uri)
            self.experiment_id = self._experiment(experiment)
        self._locks = RunLocks(place.mlruns.resolve() / ".running")

    def _experiment(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is None:
            return str(self.client.create_experiment(name, self.place.artifacts, _KIND))
        if found.lifecycle_stage != "active":
            self.client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    @contextmanager
    def _helpful(self) -> Iterator[None]:
        """Whatever MLflow, its database or its server raise becomes one message with the place."""
        try:
            yield
        except DnrError:
            raise
        except Exception as error:
            raise unusable(self.place, error) from error

    def close_abandoned(self) -> int:
        """End as KILLED the runs that processes of this machine left RUNNING; returns how many."""
        mine = f"attributes.status = 'RUNNING' and tags.`{HOST}` = '{self._locks.here}'"
        with self._helpful():
            running = self.client.search_runs([self.experiment_id], mine)
            abandoned = [run for run in running if self._locks.is_free(run.data.tags.get(LOCK, ""))]
            for run in abandoned:
                self._note_failure(run.info.run_id, "the process was killed")
                self.client.set_terminated(run.info.run_id, "KILLED")
        return len(abandoned)

    def start(
        self,
        name: str,
        started: float | None = None,
        parent: str | None = None,
        params: Sequence[Param] = (),
    ) -> str:
        """An open run, under a parent if there is one; returns its id.

        As long as this process lives, it holds a lock that tells others so.
        """
        tags = {MLFLOW_SOURCE_NAME: "dnr-bench", MLFLOW_SOURCE_TYPE: "LOCAL", MLFLOW_USER: _user()}
        tags |= {MLFLOW_PARENT_RUN_ID: parent} if parent else {}
        with self._helpful():
            lock = self._locks.take()
            tags |= lock.tags
            start = int((started or time.time()) * 1000)
            run = self.client.create_run(
                self.experiment_id, start_time=start, tags=tags, run_name=name[:_LONGEST_NAME]
            )
            self.client.log_batch(run.info.run_id, params=params)
        self._locks.hold(run.info.run_id, lock)
        return str(run.info.run_id)

    def reopen(self, run_id: str) -> bool:
        """Open a parent again, without those of its runs that did not finish; False where it is not there."""
        with self._helpful():
            if not _cleared(self.client, run_id):
                return False
            lock = self._locks.take()
            for name, value in lock.tags.items():
                self.client.set_tag(run_id, name, value)
            self._locks.hold(run_id, lock)
            self.client.update_run(run_id, "RUNNING")
        return True

    def end(self, run_id: str, status: Status, reason: str | None = None) -> None:
        """Close a run, with the reason where it did not finish."""
        with self._helpful():
            if reason is not None:
                self._note_failure(run_id, reason)
            self.client.set_terminated(run_id, status)
        self._locks.release(run_id)

    def logged(self, folder: Path) -> str | None:
        """The id of the finished run that has this folder's result; None where there is none."""
        wanted = f"attributes.status = 'FINISHED' and tags.`{_RESULT}` = '{_result_digest(folder)}'"
        with self._helpful():
            found = self.client.search_runs([self.experiment_id], wanted, max_results=1)
        return str(found[0].info.run_id) if found else None

    def log_stages(self, run_id: str, counts: Mapping[str, StageCount]) -> None:
        """Log how far an open run is: the seconds of each stage so far."""
        with self._helpful():
            self.client.log_batch(run_id, stage_metrics(counts))

    def log_result(self, run_id: str, result: RunResult, folder: Path, choices: Mapping[str, str]) -> None:
        """Log a result, as metrics, tables and the files in `folder`, to an open run; close it.

        Metrics in which one label for all neurons does as well as theirs are in the tag constant_label_wins.
        """
        with self._finishing(run_id):
            digest = RunTag(_RESULT, _result_digest(folder))
            log_contents(self.client, run_id, self.experiment_id, result, folder, choices)
            self.client.log_batch(run_id, tags=[digest])

    def log_failure(self, run_id: str, reason: str, folder: Path, status: Status) -> None:
        """Log what a run that failed or was interrupted has left, and close it."""
        with self._helpful():
            upload(self.client, run_id, folder)
        self.end(run_id, status, reason)

    def finish_parent(
        self, run_id: str, rows: Sequence[ComparisonRow], page: Path | None, status: Status
    ) -> None:
        """Close a parent run: the comparison of its jobs as note, table and plots, the best job's values.

        A view of the UI that shows the jobs and their metrics over what varies is kept under the run's id.
        """
        with self._finishing(run_id, status):
            flat = [row.flat() for row in rows]
            log_table(self.client, run_id, "comparison.json", flat)
            self.client.log_batch(
                run_id, metrics=metrics_of_best(rows), tags=[RunTag(MLFLOW_RUN_NOTE, comparison_note(rows))]
            )
            if page is not None:
                self.client.log_artifact(run_id, str(page))
            for plot in comparison_plots(rows):
                self.client.log_figure(run_id, draw(flat, plot), f"comparison/{plot.name}.png")
            if axis := axis_of(rows):
                view = view_of_jobs(run_id, *axis, [section(name) for name in headlines_of(rows)])
                self.client.set_experiment_tag(self.experiment_id, f"{TAG}{run_id}", view)

    def log_tables(
        self,
        name: str,
        tables: Sequence[Table],
        tags: Mapping[str, str],
        metrics: Mapping[str, float] | None = None,
        files: Sequence[Path] = (),
    ) -> str:
        """A finished run that holds tables and their plots, and metrics and files if any; returns its id."""
        run_id, own_tags = self.start(name), [RunTag(key, value) for key, value in tags.items()]
        with self._finishing(run_id):
            self.client.log_batch(run_id, metric_entries(metrics or {}), tags=own_tags)
            for table in tables:
                log_drawn_table(self.client, run_id, table)
            for path in files:
                self.client.log_artifact(run_id, str(path))
        return run_id

    def log_study(
        self,
        name: str,
        started: float,
        params: Mapping[str, object],
        metrics: Mapping[str, float],
        tables: Mapping[str, Rows],
        figures: Mapping[str, Figure],
        trials: Rows,
    ) -> str:
        """A finished study with some of its trials as runs under it; returns its id."""
        run_id = self.start(name, started)
        with self._finishing(run_id):
            self.client.log_batch(run_id, metric_entries(metrics), param_entries(params))
            for table, rows in ((table, rows) for table, rows in tables.items() if rows):
                log_table(self.client, run_id, f"{table}.json", rows)
            for plot, figure in figures.items():
                self.client.log_figure(run_id, figure, f"{plot}.png")
            _log_trials(self, trials, started, run_id)
        return run_id

    def delete(self, run_id: str) -> None:
        """Remove a parent that never had a job."""
        self.end(run_id, "KILLED")
        with self._helpful():
            self.client.delete_run(run_id)

    @contextmanager
    def _finishing(self, run_id: str, status: Status = "FINISHED") -> Iterator[None]:
        """Closes a run, as FAILED where logging it broke off."""
        try:
            with self._helpful():
                yield
        except BaseException as error:
            with suppress(RunError):  # what broke the logging may break this, too
                self.end(run_id, "FAILED", f"logging the run broke off: {error}")
            raise
        self.end(run_id, status)

    def _note_failure(self, run_id: str, reason: str) -> None:
        self.client.set_tag(run_id, MLFLOW_RUN_NOTE, f"**failed:** {reason}")
        self.client.set_tag(run_id, "failure", reason[:5000])


def _log_trials(tracker: Tracker, trials: Rows, started: float, parent: str) -> None:
    """Each trial as a finished run under its study."""
    for trial in trials:
        values = {key: v for key, v in trial.items() if isinstance(v, float) and key != "seconds"}
        others = {key: v for key, v in trial.items() if key not in values and v is not None}
        child = tracker.start(f"{trial['study']} trial {trial['trial']}", started, parent)
        tracker.client.log_batch(child, metric_entries(values), param_entries(others))
        tracker.end(child, "FINISHED")


def _set_current(uri: str) -> None:
    """Tell MLflow's functions the place; its environment variable stays as the user set it."""
    given = os.environ.get(VARIABLE)
    mlflow.set_tracking_uri(uri)
    if given is None:
        os.environ.pop(VARIABLE, None)
    else:
        os.environ[VARIABLE] = given


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user without a name, as in a container
        return "unknown"


def _cleared(client: MlflowClient, run_id: str) -> bool:
    """Remove the runs under a parent that did not finish; False where there is no such parent."""
    try:
        parent = client.get_run(run_id)
    except MlflowException:
        return False
    if parent.info.lifecycle_stage != "active":
        return False
    under = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run_id}'"
    for child in client.search_runs([parent.info.experiment_id], under):
        if child.info.status not in ("FINISHED", "RUNNING"):  # those of killed processes are closed by now
            client.delete_run(child.info.run_id)
    return True


def _result_digest(folder: Path) -> str:
    return sha256((folder / "result.json").read_bytes()).hexdigest()
