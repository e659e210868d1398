"""Multiruns that finish: the same command line goes on with the jobs that are not done."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from hashlib import sha256
from itertools import pairwise, product
from pathlib import Path

from filelock import FileLock, Timeout
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.shipped import CONF
from dnr_bench.results.progress import JobSet, is_finished

_LOCK = ".running"
_FOLDER = "hydra.sweep.dir"
#: Locks of this process, taken before Hydra starts: what goes wrong later it swallows.
_held: dict[Path, FileLock] = {}


def continued(words: Sequence[str]) -> list[str]:
    """The words of a multirun, with the folder of an earlier one of the same words that has jobs to do.

    Jobs that are done are not run again, unless the code has changed since.
    """
    if not any(word in ("-m", "--multirun") for word in words) or "dry=true" in words:
        return list(words)
    asked, given = _asked(words), _value(words, _FOLDER)
    if given is not None:
        _check_folder(Path(given), asked, code_digest(words))
        claimed(Path(given))
        return list(words)
    if any("shuffle(" in word for word in asked):  # other jobs each time
        return list(words)
    runs = Path(_value(words, "paths.mlruns") or "mlruns") / "runs"
    for path in sorted(runs.glob("*/set.json"), reverse=True):
        folder, known = path.parent, JobSet.read(path.parent)
        if known is None or known.words != asked:
            continue
        done = n_finished(folder, known)
        if done == len(known.jobs) or is_running(folder):
            break
        if known.code != code_digest(words):
            print(
                f"{folder} has jobs to do, but the code has changed since: all jobs are run", file=sys.stderr
            )
            break
        claimed(folder)
        print(f"going on in {folder}: {done} of {len(known.jobs)} jobs are done there", file=sys.stderr)
        return [*words, f"{_FOLDER}={_quoted(str(folder))}"]
    return list(words)


def n_finished(folder: Path, jobs: JobSet) -> int:
    """How many jobs of a multirun have a result."""
    return sum(is_finished(folder / str(number), words) for number, words in enumerate(jobs.jobs))


def claimed(folder: Path) -> FileLock:
    """The lock of a multirun's folder, held by this process; on a file system without locks nobody holds it.

    Raises:
        UsageError: another process runs it.
    """
    lock = _held.setdefault(folder.resolve(), FileLock(folder / _LOCK))
    if not lock.is_locked:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            raise UsageError(
                f"{folder}: another process runs this multirun; dnr-bench status shows how far it is"
            ) from None
        except OSError as error:
            print(f"warning: {folder} cannot be locked: {error.strerror or error}", file=sys.stderr)
    return lock


def is_running(folder: Path) -> bool:
    """Whether some process runs the multirun of a folder."""
    if folder.resolve() in _held and _held[folder.resolve()].is_locked:
        return False
    try:
        with FileLock(folder / _LOCK, timeout=0):
            return False
    except (Timeout, OSError):
        return True


def jobs_of(words: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The words of each job of a multirun: one for each combination of values, in Hydra's order.

    Of words with the same key the last one counts, in the place of the first.
    """
    choices = {
        o.get_key_element(): [f"{o.get_key_element()}={value}" for value in o.sweep_string_iterator()]
        if o.is_discrete_sweep()
        else [f"{o.get_key_element()}={o.get_value_element_as_str()}"]
        for o in parsed(words)
    }
    return tuple(product(*choices.values()))


def parsed(words: Sequence[str]) -> list[Override]:
    """The settings of a command line, as Hydra reads them."""
    return OverridesParser.create().parse_overrides(list(words))


def code_digest(words: Sequence[str]) -> str:
    """Names the code and configs of this package, and those that a command line adds from elsewhere.

    Jobs of other code are not comparable.
    """
    package = Path(__file__).parents[1]
    added = _added(words)
    roots = [package, package.parent / "evaluators", CONF, *map(Path, added)]
    files = sorted({path for root in roots for path in root.rglob("*") if path.suffix in (".py", ".yaml")})
    digest = sha256("\n".join(added).encode())
    for path in files:
        digest.update(f"{path.name}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _asked(words: Sequence[str]) -> tuple[str, ...]:
    """The settings among the words that jobs get, without those of Hydra's own and without options."""
    settings = [word for word in words if not word.startswith("-") and ("=" in word or word.startswith("~"))]
    return tuple(word for word in settings if not word.lstrip("+~").startswith(("hydra.", "hydra/")))


def _added(words: Sequence[str]) -> list[str]:
    """The folders of further configs that a command line names, and the other options that change configs."""
    found = [word for word in words if word.startswith(("hydra.searchpath=", "--config-", "-cd=", "-cn="))]
    for option, value in pairwise(words):
        if option in ("--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp"):
            found.append(value)
    return [word.partition("=")[2] or word for word in found]


def _check_folder(folder: Path, asked: Sequence[str], code: str) -> None:
    """Raises `UsageError` for a folder that holds another multirun, or one of other code."""
    known = JobSet.read(folder)
    if known is None:
        return
    if known.words != tuple(asked):
        raise UsageError(f"{_FOLDER}={folder} is the folder of another multirun: {known.title}")
    if known.code != code:
        raise UsageError(
            f"{_FOLDER}={folder}: the code has changed since its jobs were run; take another folder"
        )


def _value(words: Sequence[str], key: str) -> str | None:
    given = [word.partition("=")[2] for word in words if word.startswith(f"{key}=")]
    return given[-1].strip("'\"") if given else None


def _quoted(text: str) -> str:
    """A value for Hydra, which takes many characters for grammar."""
    return "'" + text.replace("'", "\\'") + "'"
