"""`python -m dnr_bench`: compose, build, run, log."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
import traceback
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.markup import escape

from dnr_bench.errors import DnrError, RunError, UsageError

_CONF = Path(__file__).parent.parent / "conf"
_FAILURES: list[DnrError] = []


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")
def _job(config: DictConfig) -> None:
    """One job. A failure is noted, not raised, so that the other jobs of a multirun go on."""
    settings = HydraConfig.get()
    folder, overrides = Path(settings.runtime.output_dir), list(settings.overrides.task)
    choices = settings.runtime.choices
    parts = {str(group): str(choices[group]) for group in config if group in choices}
    started = time.time()
    try:
        _run_and_log(config, folder, started, overrides, parts)
        failure = None
    except DnrError as error:
        failure = error
    except Exception as error:  # a defect or a lack of resources ends this job, not the multirun
        failure = RunError(
            f"unexpected {type(error).__name__}: {(str(error).strip() or '-').splitlines()[0]}"
        )
        failure.__cause__ = error
    if failure is not None:
        _FAILURES.append(failure)
        _report(failure, bool(config.debug))
        _log_failure(failure, config, folder, started, overrides)


def _run_and_log(
    config: DictConfig, folder: Path, started: float, overrides: list[str], parts: dict[str, str]
) -> None:
    from dnr_bench.comparison import write_outcome
    from dnr_bench.config import build_run
    from dnr_bench.multirun import PARENT_VARIABLE
    from dnr_bench.run import run
    from dnr_bench.summary import console, print_job, print_link, print_result

    out, parent = console(), os.environ.get(PARENT_VARIABLE)
    title = " ".join(overrides) or "defaults"
    out.rule(f"dnr_bench: {escape(title)}", align="left")
    result = run(build_run(config))
    result.write(folder)  # on disk before the tracking database is spoken to
    write_outcome(folder, overrides, parts)
    if parent is None:
        print_result(result, folder, parts, out)
    else:
        print_job(result, folder, out)

    from dnr_bench.tracking import Tracker

    tracker = Tracker(Path(config.paths.mlruns), config.experiment_name)
    run_id = tracker.log_result(result, folder, title, started, parent, parts)
    if parent is None:
        print_link(Path(config.paths.mlruns), run_id, tracker.experiment_id, out)


def _log_failure(
    failure: DnrError, config: DictConfig, folder: Path, started: float, overrides: list[str]
) -> None:
    """A failed job is in MLflow with its reason; a mistyped single command is not worth a run."""
    from dnr_bench.comparison import write_outcome
    from dnr_bench.multirun import PARENT_VARIABLE

    parent = os.environ.get(PARENT_VARIABLE)
    if isinstance(failure, UsageError) and parent is None:
        return
    if (folder / "outcome.json").exists():  # the labels are on disk; it is MLflow itself that failed
        return
    try:
        from dnr_bench.tracking import Tracker

        write_outcome(folder, overrides, failure=str(failure))
        plain = OmegaConf.to_container(config, resolve=False)
        assert isinstance(plain, dict)
        tracker = Tracker(Path(config.paths.mlruns), config.experiment_name)
        values = {str(key): value for key, value in plain.items()}
        tracker.log_failure(str(failure), values, folder, " ".join(overrides) or "defaults", started, parent)
    except Exception as error:  # the tracking database itself may be what failed
        print(f"error: the failure could not be logged in MLflow: {error}", file=sys.stderr)


def _report(error: BaseException, debug: bool) -> None:
    if debug:
        traceback.print_exception(error)
    print(f"error: {error}", file=sys.stderr)
    if not debug:
        print("(debug=true shows where it happened)", file=sys.stderr)


def _composition_message(error: BaseException) -> str:
    """Hydra's or OmegaConf's complaint, with the keys that would have been right."""
    text = str(error).partition("Config search path:")[0]
    lines = [line for line in text.splitlines() if "hydra.cc" not in line and "To append to" not in line]
    if isinstance(error, OverrideParseException):
        lines.append("words on the command line are key=value; --help lists the keys")
    group = re.search(r"'(\w+)/\w+'", text)
    if group and "Available options" not in text:
        lines.append(f"members of {group[1]}: {', '.join(path.stem for path in _members(group[1]))}")
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    parent = getattr(cause, "parent_node", None)
    if parent is not None and hasattr(parent, "keys"):
        where, _, wrong = str(getattr(cause, "full_key", "") or "").rpartition(".")
        allowed = ", ".join(sorted(str(key) for key in parent if str(key) not in ("_target_", "hydra")))
        lines.append(f"allowed keys of {where or 'the config'}: {allowed}")
        having = [path.stem for path in _members(where) if wrong in OmegaConf.load(path)]
        if having:
            lines.append(f"{wrong} belongs to " + ", ".join(f"{where}={name}" for name in having))
    return "\n".join(line for line in lines if line.strip())


def _members(group: str) -> list[Path]:
    """The files of a config group; none for the top level."""
    return sorted((_CONF / group).glob("*.yaml")) if group else []


def main() -> int:
    """Run the command line; 0: fine, 1: a run failed, 2: the request was wrong."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what is open is closed, as on Ctrl-C
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises, so that the messages and exit codes are ours
    try:
        _job()
    except (HydraException, OmegaConfBaseException) as error:
        _report(UsageError(_composition_message(error)), debug="debug=true" in sys.argv)
        return UsageError.exit_code
    except OSError as error:
        _report(RunError(f"cannot write the run's folder: {error}"), debug="debug=true" in sys.argv)
        return RunError.exit_code
    except KeyboardInterrupt:
        print(
            "interrupted; what was finished is kept, and the same command goes on from there", file=sys.stderr
        )
        return 130
    finally:
        _close_open_parents()
    return max((failure.exit_code for failure in _FAILURES), default=0)


def _close_open_parents() -> None:
    """A multirun that was interrupted, or whose configuration does not compose, ends in MLflow, too."""
    module = sys.modules.get("dnr_bench.multirun")  # not imported where Hydra gave up before
    if module is not None:
        module.close_open_parents()


if __name__ == "__main__":
    sys.exit(main())
