"""How far runs and sets of runs are, as their folders say: what processes note there while they work."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from dnr_bench.data.stages import StageCount
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.files import writing
from dnr_bench.infra.text_files import read_text
from dnr_bench.results.comparison import Outcome

_PROGRESS, _SET = "progress.json", "set.json"
#: Seconds after which a run that says nothing is taken for dead; it says something every five.
_SILENT = 60.0

State = Literal["done", "running", "failed", "stopped", "missing"]


@dataclass(frozen=True)
class Progress:
    """What a run notes every few seconds: where it works, and the items of each stage so far.

    started, updated: seconds since 1970.
    """

    host: str
    pid: int
    started: float
    updated: float
    stages: Mapping[str, int]

    @classmethod
    def here(cls) -> Progress:
        """That of a run which begins in this process."""
        now = time.time()
        return cls(platform.node(), os.getpid(), now, now, {})

    def at(self, counts: Mapping[str, StageCount]) -> Progress:
        """The same as of now."""
        stages = {name: count.hits + count.misses for name, count in counts.items()}
        return replace(self, updated=time.time(), stages=stages)

    def write(self, folder: Path) -> None:
        """Note it in the run's folder."""
        with writing(folder / _PROGRESS) as partial:
            partial.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Progress | None:
        """The note in a run's folder; None where there is none, or it cannot be read."""
        try:
            found = json.loads(read_text(folder / _PROGRESS, "run"))
            stages = {str(name): int(n) for name, n in found["stages"].items()}
            host, pid = str(found["host"]), int(found["pid"])
            return cls(host, pid, float(found["started"]), float(found["updated"]), stages)
        except (UsageError, ValueError, LookupError, TypeError, AttributeError):
            return None

    def is_alive(self, now: float) -> bool:
        """Whether the run still works: its process is there, or on another machine it was heard of lately."""
        if now - self.updated < _SILENT and self.host != platform.node():
            return True
        return self.host == platform.node() and _is_running(self.pid) and now - self.updated < 10 * _SILENT


@dataclass(frozen=True)
class JobSet:
    """A multirun: the words of its command line, and those of each job.

    code: a digest of the code that its jobs run. parent: its run in MLflow; empty where that has none.
    """

    words: tuple[str, ...]
    jobs: tuple[tuple[str, ...], ...]
    code: str
    parent: str

    @property
    def title(self) -> str:
        """Its words, for people."""
        return " ".join(self.words) or "defaults"

    def write(self, folder: Path) -> None:
        """Note it in the multirun's folder."""
        with writing(folder / _SET) as partial:
            partial.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> JobSet | None:
        """The note in a multirun's folder; None where there is none, or it cannot be read."""
        try:
            found = json.loads(read_text(folder / _SET, "multirun"))
            jobs = tuple(tuple(map(str, words)) for words in found["jobs"])
            return cls(tuple(map(str, found["words"])), jobs, str(found["code"]), str(found["parent"]))
        except (UsageError, ValueError, LookupError, TypeError):
            return None


@dataclass(frozen=True)
class RunStatus:
    """How far a run is. title: its words. detail: why it failed, or where it works and how far it is."""

    title: str
    state: State
    detail: str = ""


def is_finished(folder: Path, words: Sequence[str]) -> bool:
    """Whether a folder has the result of the job with these words."""
    try:
        outcome = Outcome.read(folder)
    except UsageError:
        return False
    has_result = (folder / "result.json").is_file()
    return outcome is not None and outcome.failure is None and has_result and outcome.overrides == list(words)


def set_status(folder: Path, jobs: JobSet) -> list[RunStatus]:
    """How far each job of a multirun is, in order."""
    return [run_status(folder / str(number), words) for number, words in enumerate(jobs.jobs)]


def run_status(folder: Path, words: Sequence[str] | None = None) -> RunStatus:
    """How far the run of a folder is; `words`: of its command line, where they are known."""
    outcome, progress, now = Outcome.read(folder), Progress.read(folder), time.time()
    title = " ".join(words if words is not None else outcome.overrides if outcome else ()) or "defaults"
    if outcome is not None and outcome.failure is not None:
        return RunStatus(title, "failed", (outcome.failure.splitlines() or [""])[0])
    if outcome is not None:
        return RunStatus(title, "done", outcome.finished or "")
    if progress is None:
        return RunStatus(title, "missing")
    done = ", ".join(f"{n:,} {stage}" for stage, n in progress.stages.items() if n) or "just started"
    state: State = "running" if progress.is_alive(now) else "stopped"
    return RunStatus(title, state, f"{progress.host}, process {progress.pid}: {done}")


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is somebody else's
        return True
    return True
