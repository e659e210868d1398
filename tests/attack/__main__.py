"""Attack the harness: `make attack`, about eleven minutes on two cores. Exit code 1 where anything failed.

python -m tests.attack                 everything
python -m tests.attack --only kills    one kind: values, files, kills, chats, damage
python -m tests.attack --seed 7        other moments, other damage
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from tempfile import mkdtemp

os.environ |= {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}  # forked processes must not inherit threads

import dnr_bench
import evaluators
import sweeps
from dnr_bench.app.main import prepare_process

prepare_process()

from tests.attack import damage, faults, files, kills, values  # noqa: E402
from tests.attack.children import Child, Ended, command  # noqa: E402
from tests.attack.verdicts import Tally, complaint  # noqa: E402

Task = tuple[str, Callable[[Path, Tally], None]]
KINDS = ("values", "files", "kills", "chats", "damage")
#: Values tried by one process of the campaign, one after the other.
_CHUNK = 40
_LONGEST = 1500.0


def tasks(only: Sequence[str], seed: int, root: Path) -> Iterator[Task]:
    """What is to be tried, in parts that can run side by side."""
    if "kills" in only:
        for number in range(4):
            yield f"run {number}", partial(_killed, "runs", kills.RUN, seed + number, 8)
        for number in range(3):
            yield f"multirun {number}", partial(_killed, "multiruns", kills.MULTIRUN, seed + number, 5)
        for number in range(3):
            yield f"study {number}", partial(_killed, "studies", kills.STUDY, seed + number, 5)
        for number in range(4):
            yield f"database {number}", lambda f, t, s=seed + number: kills.killed_databases(s, 8, f, t)
    if "chats" in only:
        for number in range(4):
            yield f"faults {number}", lambda f, t, s=seed + number: faults.faulty_series(s, 0.6, f, t)
        for number in range(2):
            yield f"asking {number}", lambda f, t, s=seed + number: faults.killed_chats(s, 6, f, t)
    if "damage" in only:
        for number in range(4):
            yield f"damage {number}", lambda f, t, s=seed + number: damage.damaged_copies(s, 14, f, t)
        yield "full disks", damage.full_disks
        yield "trackers", damage.broken_trackers
    if {"values", "files"} & set(only):  # their runs share a store, and start from a copy of a database
        run = _finished_run(root / "finished")
    if "values" in only:
        tried = list(values.tries())
        for first in range(0, len(tried), _CHUNK):
            yield f"values {first}", partial(_values, tried[first : first + _CHUNK], root / "finished")
    if "files" in only:
        listed = list(files.all_tries(run))
        for first in range(0, len(listed), _CHUNK):
            yield f"files {first}", partial(_files, listed[first : first + _CHUNK], root / "finished")


def _killed(name: str, words: Sequence[str], seed: int, n: int, folder: Path, tally: Tally) -> None:
    kills.killed_series(name, words, seed, n, folder, tally)


def _values(tried: Sequence[values.Try], finished: Path, folder: Path, tally: Tally) -> None:
    for number, attempt in enumerate(tried):
        place = folder / str(number)
        _with_database(place, finished)
        ended = Child(command(values.words_of(attempt, finished / "mlruns" / "store")), place).wait()
        values.judge(attempt, ended, place, tally)
        shutil.rmtree(place, ignore_errors=True)


def _with_database(place: Path, finished: Path) -> None:
    """MLflow takes seconds to create one."""
    (place / "mlruns").mkdir(parents=True)
    shutil.copy(finished / "mlruns" / "mlflow.db", place / "mlruns")


def _files(tried: Sequence[files.FileTry], finished: Path, folder: Path, tally: Tally) -> None:
    for number, attempt in enumerate(tried):
        place = folder / str(number)
        _with_database(place, finished)
        words = attempt.make(place)
        own = words[0] in ("report", "compare", "gate", "log")
        words = (
            words
            if own
            else [*values.TINY[:-2], "report=true", f"paths.store={finished / 'mlruns' / 'store'}", *words]
        )
        ended = Child(command(words), place).wait()
        wrong = complaint(ended, (0, 1, 2))
        if wrong is None and any(place.rglob(files.CANARY)):
            wrong = "code of the file was run"
        if wrong is None and _broken_out(place, ended):
            wrong = "text of the file was not escaped"
        tally.note("hostile files", attempt.name, wrong)
        shutil.rmtree(place, ignore_errors=True)


def _broken_out(place: Path, ended: Ended) -> bool:
    pages = [path.read_text(errors="replace") for path in place.rglob("*.html")]
    return any("<script>alert(1)" in page for page in pages) or "\x1b[31m" in ended.output + ended.errors


def _finished_run(folder: Path) -> Path:
    words = [*values.TINY, "report=true", "neurons.units=all", "+experiment=gate", "images_per_concept=1"]
    ended = Child(command(words), folder).wait(300)
    if wrong := complaint(ended, (0,)):
        raise SystemExit(f"the run that is to be mutated does not work: {wrong}")
    return max((folder / "mlruns" / "runs").iterdir())


def together(listed: Sequence[Task], jobs: int, root: Path) -> Tally:
    """Run tasks side by side, each in a process of its own, and add up what they found."""
    tally, waiting, running = Tally(), list(enumerate(listed)), {}
    while waiting or running:
        while waiting and len(running) < jobs:
            number, (name, task) = waiting.pop(0)
            folder = root / str(number)
            running[Child(partial(_noted, task, folder), folder)] = name, folder
        for child, (name, folder) in list(running.items()):
            found, _ = os.waitpid(child.pid, os.WNOHANG)
            if found or time.monotonic() - child.started > _LONGEST:
                child.send(9)
                del running[child]
                _add(tally, name, folder)
                print(f"  {name}: {time.monotonic() - child.started:.0f} s", flush=True)
                shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.05)
    return tally


def _noted(task: Callable[[Path, Tally], None], folder: Path) -> int:
    tally = Tally()
    try:
        task(folder / "work", tally)
    finally:
        (folder / "tally.json").write_text(json.dumps([tally.tries, tally.failures]))
    return 0


def _add(tally: Tally, name: str, folder: Path) -> None:
    if not (folder / "tally.json").exists():
        tally.note(
            "tasks of the campaign", name, (folder / ".err").read_text(errors="replace")[-500:] or "it hung"
        )
        return
    tries, failures = json.loads((folder / "tally.json").read_text())
    tally.tries.update(tries)
    for failure in failures:
        tally.failures.append(tuple(failure))
        print(f"  FAILED {failure[0]}: {failure[1][:200]!r}: {failure[2]}", flush=True)
    if errors := (folder / ".err").read_text(errors="replace").strip():
        tally.note("tasks of the campaign", name, errors[-500:])


def _import_all() -> None:
    """Import everything once: processes that are forked from this one need not."""
    for package in (dnr_bench, evaluators, sweeps):
        for module in walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__") and ".train" not in module.name:
                import_module(module.name)


def main() -> int:
    """Run the campaign; print tries and failures by kind."""
    parser = argparse.ArgumentParser(
        "python -m tests.attack", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=KINDS, nargs="+", default=KINDS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    _import_all()
    root, started = Path(mkdtemp(prefix="attack-")), time.monotonic()
    try:
        found = together(list(tasks(arguments.only, arguments.seed, root)), arguments.jobs, root)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    print(f"\n{found.table()}\n{time.monotonic() - started:.0f} s, seed {arguments.seed}")
    return int(bool(found.failures))


if __name__ == "__main__":
    sys.exit(main())
