"""What lies in a store: how large, since when, for which runs, and what may go."""

from __future__ import annotations

import gzip
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dnr_bench.infra.errors import RunError
from dnr_bench.infra.files import writing

#: Beside the result of a run: the items of the store that it has read or written.
REFERENCES = "stored.txt.gz"
#: Stages whose items cost money, and are never removed.
PAID = ("answers",)
#: What the store calls its files; whatever else lies in its folder is none of our business.
_NAMES = re.compile(r"[0-9a-f]{64}(\.npy)?(\.\w+\.partial)?")


@dataclass(frozen=True)
class Entry:
    """One item of a store with all of its files; `written`: seconds since 1970."""

    stage: str
    name: str
    files: tuple[Path, ...]
    size: int
    written: float


def entries(root: Path) -> list[Entry]:
    """All items of a store; what killed processes have left half-written counts as items of its own."""
    found = []
    for stage in sorted(path for path in root.glob("*") if path.is_dir() and not path.name.startswith(".")):
        files: dict[str, list[Path]] = {}
        for path in stage.glob("*/*"):
            if _NAMES.fullmatch(path.name) and path.name[:2] == path.parent.name and not path.is_symlink():
                files.setdefault(path.name.partition(".")[0], []).append(path)
        found += [entry for name, paths in files.items() if (entry := _entry(stage.name, name, paths))]
    return found


def write_references(touched: Mapping[str, Collection[bytes]], folder: Path) -> None:
    """Note which items a run depends on: of each stage the names."""
    with writing(folder / REFERENCES) as partial, gzip.open(partial, "wt", encoding="utf-8") as file:
        for stage, names in touched.items():
            file.writelines(f"{stage} {name.hex()}\n" for name in sorted(names))


@contextmanager
def noting_references(touched: Mapping[str, Collection[bytes]], folder: Path) -> Iterator[None]:
    """Note which items a run depends on when it ends; what a failed one has made is used when it goes on."""
    try:
        yield
    except BaseException:
        with suppress(RunError):
            write_references(touched, folder)
        raise
    write_references(touched, folder)


def references(runs: Path) -> Iterator[tuple[Path, set[tuple[str, str]]]]:
    """The folder of each run that has noted its items, and these."""
    for path in sorted(runs.rglob(REFERENCES)):
        try:
            lines = gzip.decompress(path.read_bytes()).decode().splitlines()
        except (OSError, EOFError, ValueError) as error:
            raise RunError(
                f"{path} cannot be read: {error}; without it nothing can be called unused"
            ) from error
        yield path.parent, {(stage, name) for stage, _, name in (line.rpartition(" ") for line in lines)}


def unused(found: Sequence[Entry], used: Collection[tuple[str, str]], before: float) -> list[Entry]:
    """The items that no run refers to, but for those written since `before`: a run may be making them."""
    return [
        entry
        for entry in found
        if (entry.stage, entry.name) not in used and entry.written < before and entry.stage not in PAID
    ]


def oldest(found: Sequence[Entry], last_used: Mapping[tuple[str, str], float], most: int) -> list[Entry]:
    """The items that were longest not used, so many that the others take at most `most` bytes.

    last_used: when the newest run ended that refers to an item; for others the time of writing counts.
    """
    excess = sum(entry.size for entry in found) - most
    leaving = []
    whole = [entry for entry in found if not any(path.suffix == ".partial" for path in entry.files)]
    for entry in sorted(whole, key=lambda e: max(last_used.get((e.stage, e.name), 0.0), e.written)):
        if excess <= 0:
            break
        if entry.stage not in PAID:
            leaving.append(entry)
            excess -= entry.size
    return leaving


def remove(leaving: Sequence[Entry]) -> None:
    """Delete the files of items."""
    for path in (path for entry in leaving for path in entry.files):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise RunError(f"cannot delete {path}: {error}") from error


def _entry(stage: str, name: str, paths: Sequence[Path]) -> Entry | None:
    states = []
    for path in paths:
        try:
            states.append(path.stat())
        except FileNotFoundError:  # another process has finished it
            continue
    if not states:
        return None
    return Entry(
        stage,
        name,
        tuple(paths),
        sum(state.st_size for state in states),
        max(state.st_mtime for state in states),
    )
