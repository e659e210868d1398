"""`dnr-bench run`, or no command at all: compose, build, run, log."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from dnr_bench.app.command_line import composition_error, first_line, interruption, report
from dnr_bench.app.composition import UNCOMPOSED, register_installed_configs
from dnr_bench.app.job_sets import continued
from dnr_bench.app.multirun import PARENT_VARIABLE, VARIED_VARIABLE, Turn, close_open_parents
from dnr_bench.app.record import NotLoggedError, RunRecord
from dnr_bench.infra.errors import DnrError, RunError, UsageError
from dnr_bench.infra.shipped import CONF
from dnr_bench.results.comparison import Outcome
from dnr_bench.results.progress import Progress, is_finished
from dnr_bench.results.schema import RunResult

if TYPE_CHECKING:
    from dnr_bench.app.run import RunConfig
    from dnr_bench.data.shard import Shard
    from dnr_bench.outputs.mlflow.tracker import Status
    from dnr_bench.session import Session


#: Of the jobs that this process has run.
_failures: list[DnrError] = []


class _Job:
    """One job of a run or multirun, as Hydra has set it up."""

    def __init__(self, config: DictConfig) -> None:
        settings = HydraConfig.get()
        choices = settings.runtime.choices
        self.config = config
        self.folder = Path(settings.runtime.output_dir)
        self.overrides = [str(word) for word in settings.overrides.task]
        self.choices = {str(group): str(choices[group]) for group in config if group in choices}
        self.parent = os.environ.get(PARENT_VARIABLE)
        self.turn = Turn.of(settings.job.num) if self.parent is not None else None
        self.started = time.time()
        self.record: RunRecord | None = None

    @property
    def title(self) -> str:
        return Outcome(self.overrides).title

    @property
    def name(self) -> str:
        """What MLflow lists it under: of a job what varies in its multirun."""
        varied = os.environ.get(VARIED_VARIABLE, "").split() if self.parent is not None else ()
        return Outcome(self.overrides, self.choices).name(varied)

    def run(self) -> None:
        """Describe, evaluate, write, print, log."""
        from dnr_bench.outputs.terminal.console import console, escaped

        out, config, folder = console(), self.config, self.folder
        title = f"[{self.turn.number}/{self.turn.n_jobs}] {self.name}" if self.turn else self.title
        if self.turn is None or self.turn.in_order:
            out.rule(escaped(f"dnr_bench: {title}"), align="left")
        if self.parent is not None and self._is_done():
            return
        from dnr_bench.app.configuration import build_run
        from dnr_bench.app.plan import Ledger, plan_of, print_plan
        from dnr_bench.app.run import check_images, run
        from dnr_bench.infra.store_contents import noting_references
        from dnr_bench.outputs.terminal.console import print_link, print_page
        from dnr_bench.outputs.terminal.multirun import print_job
        from dnr_bench.outputs.terminal.run import print_next_run, print_result

        settings = build_run(config, self.overrides, sharded=self.parent is None)
        if config.dry:
            if self.parent is not None:
                raise UsageError("dry=true shows the plan of one run: leave out -m")
            session = settings.session()
            check_images(settings, session)
            print_plan(plan_of(settings, session), self.choices, out)
            return
        if settings.store.sharing.shard is not None:
            self._share(settings, settings.store.sharing.shard)
            return
        self.record = RunRecord(config, self.name, self.started, self.parent, self.choices)
        session = settings.session()
        with noting_references(session.store.touched, folder):
            with self.record.growing(lambda: session.store.counts, folder):
                result = run(settings, session)
            Ledger.of(settings).noted(settings, session, result.stages)
            result.write(folder)  # on disk before the tracking database is told
            Outcome(self.overrides, self.choices).write(folder)
            if config.report:
                _write_page(result, session, folder)
        if self.parent is None:
            print_result(result, folder, self.choices, out, config.verbose)
        else:
            left = self.turn.left(time.time()) if self.turn else ""
            if self.turn and not self.turn.in_order:  # whose lines stand between those of others
                out.rule(escaped(f"dnr_bench: {title}"), align="left")
            print_job(result, folder, left, out, config.verbose)
        logged = self.record.finish(result, folder)
        if self.parent is None:
            if (folder / "report.html").exists():
                print_page(folder / "report.html", "Every neuron with its pictures", out)
            if logged:
                tracker, run_id = logged
                print_link(tracker.place, run_id, tracker.experiment_id, out)
            print_next_run(self.overrides, self.choices, out)
        if reason := result.nothing_labeled:
            raise RunError(f"no neuron got a candidate concept: {reason}")

    def _is_done(self) -> bool:
        """Whether the job was done before; what is left of one that was not is removed."""
        from dnr_bench.outputs.terminal.console import console, escaped

        if not is_finished(self.folder, self.overrides):
            before = Outcome.read(self.folder)
            if before is not None and before.failure is None and before.overrides != self.overrides:
                raise UsageError(f"{self.folder} has the result of another job: {before.title}")
            progress = Progress.read(self.folder)
            if before is None and progress is not None and progress.is_alive(time.time()):
                console().print(escaped(f"  at work on {progress.host}, process {progress.pid}"))
                return True
            (self.folder / "outcome.json").unlink(missing_ok=True)
            return False
        console().print("  finished before")
        record = RunRecord(self.config, self.name, self.started, self.parent, self.choices)
        record.finished_before(RunResult.read(self.folder), self.folder)
        return True

    def _share(self, settings: RunConfig, shard: Shard) -> None:
        """Do a shard's part: what it stores is all that counts, and the run that follows has the results."""
        from dnr_bench.app.run import share
        from dnr_bench.infra.store_contents import noting_references
        from dnr_bench.outputs.terminal.console import console
        from dnr_bench.outputs.terminal.run import print_shard

        session = settings.session()
        with noting_references(session.store.touched, self.folder):
            share(settings, session)
        Outcome(self.overrides, self.choices).write(self.folder)
        seconds = time.time() - self.started
        print_shard(len(settings.neurons), seconds, shard, self.overrides, console())

    def log_failure(self, failure: DnrError, status: Status = "FAILED") -> None:
        """A failed job is in MLflow with its reason; a mistyped single command is not worth a run."""
        if isinstance(failure, NotLoggedError) or (
            isinstance(failure, UsageError) and self.parent is None and self.record is None
        ):
            return
        try:
            if Outcome.read(self.folder) is None:
                Outcome(self.overrides, failure=str(failure)).write(self.folder)
            record = self.record or RunRecord(self.config, self.name, self.started, self.parent, self.choices)
            record.fail(str(failure), self.folder, status)
        except Exception as error:  # of the failure itself people have been told
            print(f"warning: the failure could not be noted: {error}", file=sys.stderr)


def _write_page(result: RunResult, session: Session, folder: Path) -> None:
    """report.html with its pictures, and the vectors that `dnr-bench search` reads."""
    from dnr_bench.app.vectors import keep_vectors
    from dnr_bench.outputs.pages.page import without_page
    from dnr_bench.outputs.pages.run import write_report
    from dnr_bench.outputs.pictures import take_pictures

    with without_page("vectors.npz"):
        keep_vectors(result, session, folder)
    with without_page("report.html"):
        write_report(result, take_pictures(result, session, folder), folder)


def _failure_of(error: Exception) -> DnrError:
    """One message for whatever ended a job; a defect or a lack of resources does not end a multirun."""
    if isinstance(error, DnrError):
        return error
    if isinstance(error, OmegaConfBaseException):
        failure: DnrError = composition_error(error)
    else:
        failure = RunError(f"unexpected {type(error).__name__}: {first_line(error)}")
    failure.__cause__ = error
    return failure


def job(config: DictConfig) -> None:
    """One job, in this process or in one of a launcher's. A failure is noted, so that other jobs go on."""
    mine = _Job(config)
    try:
        mine.run()
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, KeyboardInterrupt) or interruption.is_set():
            mine.log_failure(RunError("interrupted"), "KILLED")
            raise KeyboardInterrupt from error
        failure = _failure_of(error)
    else:
        if interruption.is_set():  # a library has swallowed it: no further job
            raise KeyboardInterrupt
        return
    _failures.append(failure)
    report(failure, bool(config.debug))
    mine.log_failure(failure)


def main(words: Sequence[str]) -> int:
    """Run what these words ask for; the exit code is that of the worst job."""
    register_installed_configs()
    _failures.clear()
    sys.argv = [sys.argv[0], *continued(words)]  # which Hydra reads
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(job)()
    except UNCOMPOSED as error:  # jobs catch their own
        close_open_parents()
        raise composition_error(error) from error
    except BaseException:
        close_open_parents()
        raise
    failures = [*_failures, *close_open_parents()]
    return max((failure.exit_code for failure in failures), default=0)
