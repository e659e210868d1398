"""Commands in processes of their own, forked from one that has imported everything: a try takes seconds."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

#: Seconds after which a process counts as hung.
PATIENCE = 60.0


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code (negative: the signal), what it printed, its seconds."""

    code: int
    output: str
    errors: str
    seconds: float
    hung: bool = False


class Child:
    """A forked process that runs `work` in a folder; what it prints goes to files there."""

    def __init__(self, work: Callable[[], int], folder: Path, environment: Mapping[str, str] | None = None):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.started = folder, time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            _become(work, folder, environment or {})

    def wait(self, patience: float = PATIENCE) -> Ended:
        """Wait for its end; one that takes longer is killed and counts as hung."""
        while time.monotonic() - self.started < patience:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            if found:
                return self._ended(status, hung=False)
            time.sleep(0.005)
        self.send(signal.SIGKILL)
        return self._ended(os.waitpid(self.pid, 0)[1], hung=True)

    def send(self, number: int) -> None:
        """Send a signal to it and to what it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def kill_after(self, seconds: float, number: int = signal.SIGKILL) -> Ended:
        """Let it run for a while, then send a signal and wait."""
        while time.monotonic() - self.started < seconds:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            if found:
                return self._ended(status, hung=False)
            time.sleep(0.002)
        self.send(number)
        return self.wait(time.monotonic() - self.started + PATIENCE)

    def _ended(self, status: int, hung: bool) -> Ended:
        code = os.waitstatus_to_exitcode(status)
        texts = [(self.folder / name).read_text(errors="replace") for name in (".out", ".err")]
        return Ended(code, texts[0], texts[1], time.monotonic() - self.started, hung)


def command(words: Sequence[str]) -> Callable[[], int]:
    """`dnr-bench` with these words."""

    def work() -> int:
        from dnr_bench.app.main import main

        sys.argv = ["dnr-bench", *words]
        try:
            return main()
        except SystemExit as stop:  # --help ends so
            return int(stop.code or 0)

    return work


def _become(work: Callable[[], int], folder: Path, environment: Mapping[str, str]) -> None:
    """In the child: never returns."""
    code = 70
    try:
        os.setsid()
        os.chdir(folder)
        for number, name in ((1, ".out"), (2, ".err")):
            os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        os.environ.update(environment)
        code = work()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
