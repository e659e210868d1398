"""A run's record in MLflow, from its start to its end. Nothing that the run finds out depends on it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from dnr_bench.app.composition import resolved
from dnr_bench.data.stages import StageCount
from dnr_bench.infra.errors import DnrError, RunError
from dnr_bench.results.progress import Progress
from dnr_bench.results.schema import RunResult

if TYPE_CHECKING:
    from dnr_bench.outputs.mlflow.tracker import Status, Tracker


#: Seconds between two messages to MLflow on how far a run is.
_TOLD_EVERY = 5.0


class NotLoggedError(RunError):
    """The run is done and on disk, and MLflow has not got it."""


class RunRecord:
    """Opened before the work, so that what is wrong with MLflow is known early; the work goes on without it.

    Args:
        config: of the run; it says where MLflow keeps runs.
        title: of the run.
        started: seconds since 1970.
        parent: the id of a multirun's run; empty where that one could not be opened; None: a run of its own.
        choices: the member of each config group.

    Raises:
        UsageError: `tracking.uri` is no address.
    """

    def __init__(
        self,
        config: DictConfig,
        title: str,
        started: float,
        parent: str | None,
        choices: Mapping[str, str],
    ) -> None:
        self.config, self.title, self.started, self.parent = config, title, started, parent
        self.choices = choices
        self._opened: tuple[Tracker, str] | None = None
        self._finishing = False
        if parent == "":  # what keeps the parent from MLflow was told once
            return
        try:
            self._opened = self._open()
        except RunError as error:
            print(f"warning: {error}; the run goes on and is kept on disk", file=sys.stderr)

    def _open(self) -> tuple[Tracker, str]:
        tracker = open_tracker(self.config)
        from dnr_bench.outputs.mlflow.entries import params_of

        params = params_of(resolved(self.config), self.choices)
        return tracker, tracker.start(self.title, self.started, self.parent or None, params)

    @contextmanager
    def growing(self, counts: Callable[[], Mapping[str, StageCount]], folder: Path) -> Iterator[None]:
        """Tells the run's folder and MLflow every few seconds how far the stages are."""
        progress, done = Progress.here(), Event()
        progress.write(folder)

        def tell() -> None:
            while not done.wait(_TOLD_EVERY):
                with suppress(RunError, RuntimeError):  # the counts grow meanwhile; the end is what counts
                    now = dict(counts())
                    progress.at(now).write(folder)
                    if self._opened is not None:
                        self._opened[0].log_stages(self._opened[1], now)

        thread = Thread(target=tell, name="telling how far it is", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join(_TOLD_EVERY)  # a server that does not answer is not waited for

    def finish(self, result: RunResult, folder: Path) -> tuple[Tracker, str] | None:
        """Log a result that is on disk; returns where it is, None for jobs whose multirun is not in MLflow.

        Raises:
            NotLoggedError: MLflow does not take it; the message says where the result is.
        """
        if self.parent == "":
            return None
        try:
            tracker, run_id = self._opened = self._opened or self._open()
            self._finishing = True
            tracker.log_result(run_id, result, folder, self.choices)
        except RunError as error:
            raise NotLoggedError(f"{error}\n{kept(folder)}") from error
        return tracker, run_id

    def finished_before(self, result: RunResult, folder: Path) -> None:
        """See that MLflow has a result which an earlier process has left on disk.

        Raises:
            NotLoggedError: MLflow does not take it.
        """
        if self._opened is None:
            return
        tracker, run_id = self._opened
        try:
            if tracker.logged(folder):
                tracker.delete(run_id)
                return
        except RunError as error:
            raise NotLoggedError(f"{error}\n{kept(folder)}") from error
        self.finish(result, folder)

    def fail(self, reason: str, folder: Path, status: Status) -> None:
        """Log why there is no result; that this fails, too, is a warning."""
        if self._opened is None:
            return
        tracker, run_id = self._opened
        try:
            if self._finishing:
                tracker.end(run_id, status, reason)
            else:
                tracker.log_failure(run_id, reason, folder, status)
        except DnrError as error:
            print(f"warning: MLflow does not know of the failure: {error}", file=sys.stderr)


def open_tracker(config: DictConfig) -> Tracker:
    """The tracker that a config names; runs of killed processes are closed there.

    Raises:
        UsageError: its address is none.
        RunError: it cannot be used.
    """
    from dnr_bench.outputs.mlflow.places import tracking_place
    from dnr_bench.outputs.mlflow.tracker import Tracker

    place = tracking_place(Path(config.paths.mlruns), config.tracking.uri)
    tracker = Tracker(place, config.experiment_name)
    tracker.close_abandoned()
    return tracker


def kept(folder: Path) -> str:
    """Where a result is that MLflow has not got, and what to do."""
    folder = folder.resolve()
    folder = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    return f"what was run is in {folder}; dnr-bench log {folder} sends it to MLflow later"
