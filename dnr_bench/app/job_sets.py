"""Multiruns that finish: the same command line goes on with the jobs that are not done."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from hashlib import sha256
from itertools import product
from pathlib import Path

from filelock import FileLock, Timeout
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from dnr_bench.infra.errors import RunError, UsageError
from dnr_bench.infra.shipped import CONF
from dnr_bench.results.progress import JobSet, is_finished

_LOCK = ".running"
_FOLDER = "hydra.sweep.dir"


def continued(words: Sequence[str]) -> list[str]:
    """The words of a multirun, with the folder of an earlier one of the same words that has jobs to do.

    Jobs that are done are not run again, unless the code has changed since.
    """
    if not any(word in ("-m", "--multirun") for word in words) or "dry=true" in words:
        return list(words)
    asked, given = _asked(words), _value(words, _FOLDER)
    if given is not None:
        _check_folder(Path(given), asked)
        return list(words)
    runs = Path(_value(words, "paths.mlruns") or "mlruns") / "runs"
    for path in sorted(runs.glob("*/set.json"), reverse=True):
        folder, known = path.parent, JobSet.read(path.parent)
        if known is None or known.words != asked:
            continue
        done = n_finished(folder, known)
        if done == len(known.jobs) or is_running(folder):
            break
        if known.code != code_digest():
            print(
                f"{folder} has jobs to do, but the code has changed since: all jobs are run", file=sys.stderr
            )
            break
        print(f"going on in {folder}: {done} of {len(known.jobs)} jobs are done there", file=sys.stderr)
        return [*words, f"{_FOLDER}={_quoted(str(folder))}"]
    return list(words)


def n_finished(folder: Path, jobs: JobSet) -> int:
    """How many jobs of a multirun have a result."""
    return sum(is_finished(folder / str(number), words) for number, words in enumerate(jobs.jobs))


def claimed(folder: Path) -> FileLock:
    """The lock of a multirun's folder, held.

    Raises:
        UsageError: another process runs it.
        RunError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / _LOCK)
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(f"{folder}: another process runs this multirun") from None
    except OSError as error:
        raise RunError(f"{folder} cannot be written: {error.strerror or error}") from error
    return lock


def is_running(folder: Path) -> bool:
    """Whether some process runs the multirun of a folder."""
    try:
        with FileLock(folder / _LOCK, timeout=0):
            return False
    except (Timeout, OSError):
        return True


def jobs_of(words: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The words of each job of a multirun: one for each combination of values, in Hydra's order."""
    choices = [
        [f"{o.get_key_element()}={value}" for value in o.sweep_string_iterator()]
        if o.is_discrete_sweep()
        else [f"{o.get_key_element()}={o.get_value_element_as_str()}"]
        for o in parsed(words)
    ]
    return tuple(product(*choices))


def parsed(words: Sequence[str]) -> list[Override]:
    """The settings of a command line, as Hydra reads them."""
    return OverridesParser.create().parse_overrides(list(words))


def code_digest() -> str:
    """Names the code and configs of this package: jobs of other code are not comparable."""
    package = Path(__file__).parents[1]
    roots = [package, package.parent / "evaluators", CONF]
    files = sorted({path for root in roots for path in root.rglob("*") if path.suffix in (".py", ".yaml")})
    digest = sha256()
    for path in files:
        digest.update(f"{path.name}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _asked(words: Sequence[str]) -> tuple[str, ...]:
    """The settings among the words that jobs get, without those of Hydra's own and without options."""
    settings = [word for word in words if not word.startswith("-") and "=" in word]
    return tuple(word for word in settings if not word.lstrip("+~").startswith(("hydra.", "hydra/")))


def _check_folder(folder: Path, asked: Sequence[str]) -> None:
    """Raises `UsageError` for a folder that holds another multirun, or one that somebody runs."""
    known = JobSet.read(folder)
    if known is not None and known.words != tuple(asked):
        raise UsageError(f"{_FOLDER}={folder} is the folder of another multirun: {known.title}")
    if known is not None and is_running(folder):
        raise UsageError(
            f"{folder}: another process runs this multirun; dnr-bench status shows how far it is"
        )


def _value(words: Sequence[str], key: str) -> str | None:
    given = [word.partition("=")[2] for word in words if word.startswith(f"{key}=")]
    return given[-1].strip("'\"") if given else None


def _quoted(text: str) -> str:
    """A value for Hydra, which takes many characters for grammar."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
