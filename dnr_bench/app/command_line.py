"""Shared by all commands: options, one helpful message when something goes wrong, an exit code."""

from __future__ import annotations

import argparse
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from dnr_bench.infra.errors import DnrError, RunError, UsageError
from dnr_bench.infra.shipped import config_members
from dnr_bench.infra.text_files import printable, shortened

#: Set by the first signal: libraries turn the exception that it raises into errors of their own.
interruption = threading.Event()
#: The exit code of what Ctrl-C or SIGTERM has ended.
INTERRUPTED = 130
#: A name and password in an address, and what keys of services look like.
_SECRETS = re.compile(r"://[^/@\s]*:[^/@\s]*@|\bsk-[\w-]{20,}|\b(hf|ghp)_[A-Za-z0-9]{30,}")


class CommandParser(argparse.ArgumentParser):
    """Options of a command; mistakes raise `UsageError`, as everywhere."""

    def __init__(self, name: str, description: str | None) -> None:
        super().__init__(
            prog=f"dnr-bench {name}",
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def add_settings(self) -> None:
        """The settings of a run, and where else their configs lie."""
        self.add_argument("--config-dir", "-cd", metavar="DIR", help="a folder with further configs")
        self.add_argument("overrides", nargs="*", metavar="key=value", help="settings of a run")

    def add_tracking(self) -> None:
        """Where MLflow keeps runs, and in which experiment."""
        self.add_argument("--mlruns", type=Path, default=Path("mlruns"), help="the folder of its database")
        self.add_argument("--tracking-uri", metavar="URI", help="a server or database of MLflow's instead")
        self.add_argument("--experiment", default="dnr_bench", help="in which MLflow logs it")

    def error(self, message: str) -> None:  # type: ignore[override]
        """Raise in place of exiting, so that messages and exit codes are those of all commands."""
        raise UsageError(f"{message}; {self.prog} --help says what it takes")


def taken_words(overrides: Sequence[str], own: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """A command's own key=value words, `own` having their defaults, and the others."""
    found, others = dict(own), []
    for word in overrides:
        key, _, value = word.partition("=")
        if key in own:
            found[key] = value
        else:
            others.append(word)
    return found, others


def exit_code_of(command: Callable[[], int], words: Sequence[str]) -> int:
    """Run a command; 0: fine, 1: it failed, 2: the request was wrong, 130: interrupted."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises, so that the messages and exit codes are ours
    debug = "debug=true" in words
    try:
        return _run(command, words)
    except DnrError as error:
        report(error, debug)
        return error.exit_code
    except (HydraException, OmegaConfBaseException) as error:
        report(composition_error(error), debug, error)
        return UsageError.exit_code
    except OSError as error:
        report(RunError(f"a file cannot be read or written: {error}"), debug, error)
        return RunError.exit_code
    except Exception as error:  # a defect: one message for it, too
        report(RunError(f"unexpected {type(error).__name__}: {first_line(error)}"), debug, error)
        return RunError.exit_code
    except KeyboardInterrupt:
        print(
            "interrupted; what was finished is kept, and the same command goes on from there", file=sys.stderr
        )
        return INTERRUPTED


def first_line(error: BaseException) -> str:
    """The first line of what an error says."""
    return (str(error).strip() or "-").splitlines()[0][:500]


def _run(command: Callable[[], int], words: Sequence[str]) -> int:
    """Run the command; after a signal, whatever it ends with is an interruption."""
    try:
        _refuse_secrets(words)
        return command()
    except Exception as error:
        if interruption.is_set():
            raise KeyboardInterrupt from error
        raise


def report(error: BaseException, debug: bool, cause: BaseException | None = None) -> None:
    """One message on stderr; with a traceback (of its cause) before it where it was asked for."""
    if debug:
        traceback.print_exception(cause or error)
    print(printable(f"error: {error}"), file=sys.stderr)
    if not debug:
        print("(debug=true shows where it happened)", file=sys.stderr)


def _refuse_secrets(words: Sequence[str]) -> None:
    """Command lines are written into configs, results and MLflow: they are no place for secrets."""
    for word in words:
        if _SECRETS.search(word):
            raise UsageError(
                f"{word.partition('=')[0]}=... looks as if it held a password or a key, and settings are"
                " written into results. Keys belong into environment variables (key_env names one)"
            )


def composition_error(error: BaseException) -> UsageError:
    """What Hydra, OmegaConf or YAML found wrong with settings, with what would have been right."""
    if isinstance(error, OverrideParseException):
        return UsageError(
            f"{shortened(error.override)} is no setting: {first_line(error)}\nwords on the command line are"
            " key=value; --help lists the keys"
        )
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.rpartition("/")
        known = ", ".join(path.stem for path in config_members(group))
        return UsageError(f"{group}={name}: there is no such member\nmembers of {group}: {known or 'none'}")
    causes = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    ours = next((cause for cause in causes if isinstance(cause, UsageError)), None)
    if ours is not None:
        return ours
    lines = [" ".join(str(error).split()) or type(error).__name__]
    cause = next((cause for cause in causes if isinstance(cause, OmegaConfBaseException)), error)
    parent = getattr(cause, "parent_node", None)
    if isinstance(cause, ConfigKeyError | ConfigAttributeError) and isinstance(parent, DictConfig):
        where, _, wrong = str(getattr(cause, "full_key", "") or "").rpartition(".")
        allowed = ", ".join(sorted(str(key) for key in parent if str(key) not in ("_target_", "hydra")))
        lines = [
            f"{where}.{wrong}".lstrip(".") + ": there is no such key",
            f"allowed keys of {where or 'the config'}: {allowed}",
        ]
        having = [path.stem for path in config_members(where) if wrong in OmegaConf.load(path)]
        if having:
            lines.append(f"{wrong} belongs to " + ", ".join(f"{where}={name}" for name in having))
    elif cause is not error:
        lines.append(" ".join(str(cause).split()))
    return UsageError("\n".join(lines))
