"""The content-addressed store of stage results: nothing expensive is computed twice.

One file an item, named by the SHA-256 of its key, written under another name first and then renamed, so
that a killed process leaves either a whole item or none. Each file carries the checksum of its content;
a damaged one counts as missing. There is no index, so processes and machines can share a folder.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays
from tqdm import tqdm

from dnr_bench.errors import RunError

log = logging.getLogger(__name__)

#: Items whose names share so many letters share a lock: 4,096 locks a stage, however many items.
_SLOT = 3

#: What can be stored: anything JSON holds, or named arrays.
Value = Any
Key = Mapping[str, Any]


@dataclass
class StageCount:
    """What a stage took so far: wall seconds, items found and items computed."""

    seconds: float = 0.0
    hits: int = 0
    misses: int = 0


class Store:
    """Stage results under `root`, and the count of hits and misses since this object was made."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.counts: dict[str, StageCount] = {}

    def fill(
        self,
        stage: str,
        keys: Sequence[Key],
        compute: Callable[[list[int]], Iterable[Value]],
        batch: int = 64,
    ) -> list[Value]:
        """The values of `keys` in order; `compute(indices)` yields those that are not stored yet.

        Each value is kept as soon as it is yielded. Equal keys are computed once; a batch that another
        process is working on is left to it and read afterwards.
        """

        def in_order(indices: list[int], _: list[Value | None]) -> Iterator[tuple[int, Value]]:
            return zip(indices, compute(indices), strict=True)

        return self._fill(stage, keys, in_order, lambda value: True, batch)

    def fill_as_done(
        self,
        stage: str,
        keys: Sequence[Key],
        compute: Callable[[list[int]], Iterable[tuple[int, Value]]],
        batch: int = 64,
    ) -> list[Value]:
        """As `fill`, but `compute(indices)` yields (index, value) in any order, each once it is there."""
        return self._fill(stage, keys, lambda indices, _: compute(indices), lambda value: True, batch)

    def lacks(self, stage: str, keys: Sequence[Key]) -> list[int]:
        """The places of the keys that have no value here, the first one of equal keys."""
        first = {name: index for index, name in reversed(list(enumerate(digest(key) for key in keys)))}
        return sorted(index for name, index in first.items() if self._read(stage, name) is None)

    def extend(
        self,
        stage: str,
        keys: Sequence[Key],
        field: str,
        length: int,
        compute: Callable[[list[int], list[int]], Iterable[dict[str, np.ndarray]]],
        batch: int = 64,
    ) -> list[dict[str, np.ndarray]]:
        """As `fill` for entries that can grow: each holds at least `length` rows of the array `field`.

        `compute(indices, have)` yields for each index the rows from `have` on; they are added to the entry.
        """

        def grow(indices: list[int], old: list[Value | None]) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
            have = [0 if entry is None else len(entry[field]) for entry in old]
            for index, entry, new in zip(indices, old, compute(indices, have), strict=True):
                whole = new if entry is None else {field: np.concatenate([entry[field], new[field]])}
                yield index, whole

        return self._fill(stage, keys, grow, lambda value: len(value[field]) >= length, batch)

    def _fill(
        self,
        stage: str,
        keys: Sequence[Key],
        compute: Callable[[list[int], list[Value | None]], Iterable[tuple[int, Value]]],
        complete: Callable[[Value], bool],
        batch: int,
    ) -> list[Value]:
        with self.timed(stage) as count:
            digests = [digest(key) for key in keys]
            first = {name: index for index, name in reversed(list(enumerate(digests)))}
            stored = {name: self._read(stage, name) for name in first}
            found = {name: v for name, v in stored.items() if v is not None and complete(v)}
            missing = sorted(first[name] for name in first if name not in found)
            computed = 0
            with tqdm(total=len(missing), desc=stage, disable=None if missing else True, leave=False) as bar:
                for chunk in self._claimed(stage, missing, digests, batch):
                    now = {index: self._read(stage, digests[index]) for index in chunk}
                    absent = [index for index, v in now.items() if v is None or not complete(v)]
                    found.update({digests[i]: v for i, v in now.items() if i not in absent})
                    bar.update(len(chunk) - len(absent))
                    for index, value in compute(absent, [now[i] for i in absent]) if absent else ():
                        self._write(stage, digests[index], value)
                        found[digests[index]] = value
                        computed += 1
                        count.misses += 1
                        bar.update()
            count.hits += len(first) - computed
            return [found[name] for name in digests]

    def fill_arrays(
        self,
        stage: str,
        keys: Sequence[Key],
        n_rows: int,
        widths: Sequence[int],
        compute: Callable[[list[int], int], Iterator[Sequence[np.ndarray]]],
        shard: int = 2048,
    ) -> list[np.ndarray]:
        """Float32 arrays too large for memory, one a key, mapped from their files.

        `compute(indices, start)` yields blocks of rows in order from row `start` on, one block for each
        of the arrays at `indices`. Rows are written as they come; a pass that was killed goes on at the
        last `shard` rows that were finished. Equal keys are computed once.
        """
        with self.timed(stage) as count, ExitStack() as locks:
            names = [digest({**key, "rows": n_rows, "width": w}) for key, w in zip(keys, widths, strict=True)]
            for name in sorted(set(names)):
                locks.enter_context(self._lock(stage, name))
            first = {name: index for index, name in reversed(list(enumerate(names)))}
            missing = sorted(i for name, i in first.items() if not self._array_is_whole(stage, name))
            if missing:
                targets = [(names[i], (n_rows, widths[i])) for i in missing]
                self._write_rows(stage, targets, lambda start: compute(missing, start), shard)
            count.misses += len(missing)
            count.hits += len(first) - len(missing)
            return [np.load(self._array_path(stage, name), mmap_mode="r") for name in names]

    @contextmanager
    def timed(self, stage: str) -> Iterator[StageCount]:
        """Adds the time spent inside to a stage."""
        count = self.counts.setdefault(stage, StageCount())
        start = time.perf_counter()
        try:
            yield count
        finally:
            count.seconds += time.perf_counter() - start

    def _write_rows(
        self,
        stage: str,
        targets: Sequence[tuple[str, tuple[int, int]]],
        compute: Callable[[int], Iterator[Sequence[np.ndarray]]],
        shard: int,
    ) -> None:
        paths = [self._array_path(stage, name) for name, _ in targets]
        progress = digest({"progress": [name for name, _ in targets]})
        # a pass over other arrays must not go on in the files of this one
        partials = [path.with_suffix(f".{progress[:16]}.partial") for path in paths]
        whole = all(partial.exists() for partial in partials)
        kept = start = (self._read(stage, progress) or 0) if whole else 0
        if not start:  # else a later pass would take the rows of an earlier one for its own
            self._path(stage, progress).unlink(missing_ok=True)
        rows = [
            _mapped(partial, shape, new=not start)
            for partial, (_, shape) in zip(partials, targets, strict=True)
        ]
        for blocks in compute(start):
            for array, block in zip(rows, blocks, strict=True):
                array[start : start + len(block)] = block
            start += len(blocks[0])
            if start - kept >= shard:
                _flush(rows, paths[0])
                self._write(stage, progress, start)
                kept = start
        if any(start != n_rows for _, (n_rows, _) in targets):
            raise RunError(f"{stage}: {start} rows were computed of {targets[0][1][0]}")
        _flush(rows, paths[0])
        for partial, path, (name, _) in zip(partials, paths, targets, strict=True):
            with _helpful_io(path):
                partial.replace(path)
            self._write(stage, name, {"sha256": _file_sha256(path)})
            for left in path.parent.glob(f"{name}.*.partial"):  # of a pass that was killed
                left.unlink()
        self._path(stage, progress).unlink(missing_ok=True)

    def _array_path(self, stage: str, name: str) -> Path:
        return self._path(stage, name).with_suffix(".npy")

    def _array_is_whole(self, stage: str, name: str) -> bool:
        path, manifest = self._array_path(stage, name), self._read(stage, name)
        if manifest is None or not path.exists():
            return False
        if _file_sha256(path) != manifest["sha256"]:
            log.warning("damaged array %s in the store: computing it again", path)
            return False
        return True

    def _claimed(self, stage: str, missing: list[int], digests: list[str], batch: int) -> Iterator[list[int]]:
        """Batches of the missing items while their locks are held; those locked by others come last."""
        left_to_others: list[int] = []
        for first in range(0, len(missing), batch):
            with ExitStack() as held:
                slots: dict[str, bool] = {}
                mine: list[int] = []
                for index in missing[first : first + batch]:
                    slot = digests[index][:_SLOT]
                    if slot not in slots:
                        slots[slot] = self._try_lock(stage, slot, held)
                    (mine if slots[slot] else left_to_others).append(index)
                if mine:
                    yield mine
        for index in left_to_others:
            with self._lock(stage, digests[index][:_SLOT]):
                yield [index]

    def _try_lock(self, stage: str, slot: str, held: ExitStack) -> bool:
        try:
            held.enter_context(self._lock(stage, slot).acquire(timeout=0))
        except Timeout:
            return False
        return True

    def _lock(self, stage: str, name: str) -> FileLock:
        folder = self.root / ".locks"
        with _helpful_io(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{stage}-{name}")

    def _path(self, stage: str, name: str) -> Path:
        return self.root / stage / name[:2] / name

    def _read(self, stage: str, name: str) -> Value | None:
        path = self._path(stage, name)
        with _helpful_io(path):
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                return None
        head, _, payload = content.partition(b"\n")
        checksum, _, kind = head.partition(b" ")
        if checksum.decode("ascii", "replace") != sha256(payload).hexdigest():
            log.warning("damaged item %s in the store: computing it again", path)
            return None
        return load_arrays(payload) if kind == b"arrays" else json.loads(payload)

    def _write(self, stage: str, name: str, value: Value) -> None:
        arrays = isinstance(value, dict) and any(isinstance(part, np.ndarray) for part in value.values())
        if arrays:  # safetensors writes an array's memory as it lies
            payload = save_arrays({field: np.ascontiguousarray(part) for field, part in value.items()})
        else:
            payload = json.dumps(value).encode()
        head = f"{sha256(payload).hexdigest()} {'arrays' if arrays else 'json'}\n".encode()
        path = self._path(stage, name)
        partial = path.with_name(f"{name}.{os.getpid()}.partial")
        with _helpful_io(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(head + payload)
            partial.replace(path)


def digest(key: Key) -> str:
    """The name under which a key's value is stored: SHA-256 of its canonical JSON."""
    return sha256(json.dumps(key, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def pixels_digest(image: np.ndarray) -> str:
    """A name for an array's content, shape and type included."""
    head = f"{image.dtype}{image.shape}".encode()
    return sha256(head + np.ascontiguousarray(image).tobytes()).hexdigest()


def _mapped(path: Path, shape: tuple[int, int], new: bool) -> np.memmap:
    """A float32 array in a file whose space on the disk is taken at once: a full disk shows here."""
    with _helpful_io(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        array = np.lib.format.open_memmap(path, "w+" if new else "r+", np.float32, shape)
        if new and hasattr(os, "posix_fallocate"):
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        return array


def _flush(arrays: Sequence[np.memmap], path: Path) -> None:
    with _helpful_io(path):
        for array in arrays:
            array.flush()


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


@contextmanager
def _helpful_io(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(
            f"cannot use the store at {path.parent}: {error.strerror or error}. "
            "Everything finished before is kept; free some space or set paths.store to another folder."
        ) from error
