"""Damaged stores and databases, full disks, broken trackers: the same result, or a message that says why."""

from __future__ import annotations

import random
import resource
import shutil
import signal
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from tests.attack.children import PATIENCE, Child, Ended, command
from tests.attack.kills import findings, same
from tests.attack.values import TINY
from tests.attack.verdicts import Tally, complaint

WORDS = (*TINY, "captioner=blip", "evaluator=[planted,fc_layer]")


def damaged_copies(seed: int, times: int, folder: Path, tally: Tally) -> None:
    """Damage one file of a finished run's store or database at a time, and run again."""
    rng = random.Random(seed)
    if wrong := complaint(Child(command(WORDS), folder / "whole").wait(), (0,)):
        tally.note("damaged stores", "the unbroken one", wrong)
        return
    expected = _newest(folder / "whole")
    for number in range(times):
        place = folder / "copy"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(folder / "whole", place)
        of_database = number % 5 == 4
        files = sorted(
            path
            for path in (place / "mlruns" / "store").rglob("*")
            if path.is_file() and path.suffix != ".lock"
        )
        file = (
            place / "mlruns" / "mlflow.db"
            if of_database
            else rng.choice([f for f in files if ".locks" not in f.parts])
        )
        how = _damage(file, files, rng)
        ended = Child(command(WORDS), place).wait()
        wrong = complaint(ended, (0, 1) if of_database else (0,))
        if wrong is None and not same(_newest(place), expected):
            wrong = "other labels, scores or metrics"
        tally.note(
            "damaged databases" if of_database else "damaged stores", f"seed {seed}: {how} {file.name}", wrong
        )
    shutil.rmtree(folder, ignore_errors=True)


def _damage(file: Path, others: Sequence[Path], rng: random.Random) -> str:
    content = bytearray(file.read_bytes())
    how = rng.choice(
        [
            "a bit of its head in",
            "a bit of",
            "the end of",
            "all of",
            "another item over",
            "more after",
            "nothing is left of",
        ]
    )
    if how == "nothing is left of":
        file.unlink()
        return how
    if how.startswith("a bit") and content:
        place = rng.randrange(min(len(content), 80) if "head" in how else len(content))
        content[place] ^= 1 << rng.randrange(8)
    elif how == "the end of":
        content = content[: rng.randrange(len(content) or 1)]
    elif how == "all of":
        content = bytearray(rng.randbytes(200))
    elif how == "another item over":
        content = bytearray(rng.choice(list(others)).read_bytes())
    else:
        content += rng.randbytes(20)
    file.write_bytes(content)
    return how


def full_disks(folder: Path, tally: Tally) -> None:
    """No file may grow beyond a limit, as on a full disk; then the same command with room."""
    whole = Child(command(WORDS), folder / "whole").wait()
    tally.note("full disks", "with room", complaint(whole, (0,)))
    expected = _newest(folder / "whole")
    for kilobytes in (0, 1, 4, 16, 64, 150, 300, 600):
        place = folder / str(kilobytes)

        def limited(limit: int = kilobytes << 10) -> int:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            # what is printed goes to files, too
            resource.setrlimit(resource.RLIMIT_FSIZE, (max(limit, 2048), resource.RLIM_INFINITY))
            return command(WORDS)()

        ended = Child(limited, place).wait()
        tally.note("full disks", f"{kilobytes} KB", complaint(ended, (0, 1)))
        after = Child(command(WORDS), place).wait()
        wrong = complaint(after, (0, 1))
        if wrong is None and not same(_newest(place), expected):
            wrong = "other labels, scores or metrics after there was room"
        tally.note("full disks", f"{kilobytes} KB, then room", wrong)
    for words in (
        ["paths.store=/dev/null/x"],
        ["paths.store=/proc/x"],
        ["paths.mlruns=/proc/x"],
        ["paths.mlruns=/dev/null"],
        ["paths.store=file/x"],
    ):
        (folder / "read_only").mkdir(exist_ok=True)
        (folder / "read_only" / "file").write_text("no folder")
        ended = Child(command([*WORDS, *words]), folder / "read_only").wait()
        tally.note("places that cannot be written", words[0], complaint(ended, (1, 2)))
    shutil.rmtree(folder, ignore_errors=True)


def broken_trackers(folder: Path, tally: Tally) -> None:
    """MLflow elsewhere, locked or nonsense: the result is on disk, and is sent later."""

    def locked(place: Path) -> Callable[[], Ended]:
        def run() -> Ended:
            with closing(sqlite3.connect(place / "mlruns" / "mlflow.db")) as database:
                database.execute("BEGIN EXCLUSIVE")
                return Child(command(WORDS), place).wait(2 * PATIENCE)

        Child(command(WORDS), place).wait()
        return run

    def with_words(place: Path, *words: str, text: str | None = None) -> Callable[[], Ended]:
        def run() -> Ended:
            if text is not None:
                (place / "mlruns").mkdir(parents=True)
                (place / "mlruns" / "mlflow.db").write_text(text)
            return Child(command([*WORDS, *words]), place).wait()

        return run

    broken = {
        "nobody there": with_words(folder / "a", "tracking.uri=http://127.0.0.1:9"),
        "no MLflow there": with_words(folder / "b", "tracking.uri=http://127.0.0.1:9/x"),
        "nonsense": with_words(folder / "c", text="no database" * 99),
        "an empty file": with_words(folder / "d", text=""),
        "a folder": with_words(folder / "e", "tracking.uri=sqlite:////proc/x.db"),
        "another database": with_words(folder / "f", "tracking.uri=postgresql://nobody@127.0.0.1:9/x"),
        "locked": locked(folder / "g"),
    }
    for (name, run), place in zip(broken.items(), "abcdefg", strict=True):
        ended = run()
        wrong = complaint(ended, (0, 1))
        newest = max((folder / place / "mlruns" / "runs").iterdir())
        if wrong is None and not (newest / "result.json").exists():
            wrong = "no result on disk"
        if wrong is None and ended.code == 1 and "dnr-bench log" not in ended.errors:
            wrong = "it does not say how to send the result later"
        tally.note("broken trackers", name, wrong)
        sent = Child(command(["log", str(newest), "--tracking-uri", "later.db"]), folder / place).wait()
        tally.note("results sent later", name, complaint(sent, (0,)))
    shutil.rmtree(folder, ignore_errors=True)


def _newest(folder: Path) -> dict[str, object]:
    finished = [path for path in (folder / "mlruns" / "runs").iterdir() if (path / "result.json").exists()]
    return findings(max(finished)) if finished else {}
