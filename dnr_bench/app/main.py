"""The command line: `dnr-bench [COMMAND] ...`, the same as `python -m dnr_bench [COMMAND] ...`."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

from dnr_bench.app.command_line import INTERRUPTED, exit_code_of, interruption

#: Each is a module of dnr_bench.app.commands whose `main` takes the words and gives the exit code.
COMMANDS = {
    "run": "describe neurons, evaluate the labels, log the run; the default",
    "compare": "do runs differ in more than chance?",
    "cost": "what would a run of another size take?",
    "export": "write finished runs as Parquet and as evaluation logs",
    "gate": "has label quality got worse than a baseline?",
    "leaderboard": "rank the settings of all runs in a folder",
    "log": "send finished runs to MLflow that it has not got",
    "rate": "people judge labels: build, serve and analyze a rating study",
    "report": "write a run's page with pictures anew, or two runs side by side",
    "search": "find the units that a text describes",
    "status": "how far are the jobs of a multirun?",
    "store": "how much is stored, and make room",
    "trust": "which metric orders settings as the truth does?",
    "try": "score one concept for one neuron",
    "ui": "open MLflow on what has been run",
}
_GROUP = "dnr_bench.commands"
#: Seconds that an interrupted process has for closing what is open.
_GRACE = 45
#: Imports make many objects that stay: looking through them as often as usual takes a fourth of their time.
_COLLECTED = (50_000, 20, 20)
#: What other libraries are told before they are imported.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # seconds, and not minutes, until a silent server is told of
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


def main() -> int:
    """Run the command line; see `exit_code_of` for the codes."""
    prepare_process()
    words = sys.argv[1:]
    command, rest = split_command(words)
    if "COMP_LINE" in os.environ:  # a shell asks how the line could go on; Hydra knows settings only
        program, _, typed = os.environ["COMP_LINE"].partition(" ")
        named, _ = split_command(typed.split(" "))
        os.environ["COMP_LINE"] = f"{program} {typed.removeprefix(f'{named} ')}"
    return exit_code_of(lambda: _loaded(command)(rest), words)


def prepare_process() -> None:
    """Set up the process, which a library must not do: environment, signals, import path.

    Modules of the user's lie in the working directory, which `python -m` looks into and a command does not.
    """
    if not {"", str(Path.cwd())} & set(sys.path):
        sys.path.append(str(Path.cwd()))
    gc.set_threshold(*_COLLECTED)
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)


def _interrupt(number: int, frame: object) -> None:
    """Let what is open be closed. What has not ended by then, or gets a second signal, ends as it is."""
    interruption.set()
    for other in (signal.SIGINT, signal.SIGTERM):
        signal.signal(other, lambda *_: os._exit(INTERRUPTED))
    if hasattr(signal, "SIGALRM"):  # the system ends the process, even where Python does not get to run
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_GRACE)
    raise KeyboardInterrupt


def split_command(words: Sequence[str]) -> tuple[str, list[str]]:
    """The command and its words; words without a command are those of a run."""
    if words and words[0] in {*COMMANDS, *_of_packages()}:
        return words[0], list(words[1:])
    return "run", list(words)


def _loaded(command: str) -> Callable[[Sequence[str]], int]:
    found: Callable[[Sequence[str]], int]
    if command in COMMANDS:
        name = {"try": "try_concept"}.get(command, command)
        found = import_module(f"dnr_bench.app.commands.{name}").main
    else:
        found = _of_packages()[command]()
    return found


def _of_packages() -> dict[str, Callable[[], Callable[[Sequence[str]], int]]]:
    """Loaders of the commands of installed packages, `study` among them, by name."""
    return {found.name: found.load for found in entry_points(group=_GROUP)}
