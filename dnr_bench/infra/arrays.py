"""Arrays of the store that are too large for memory: written block by block, mapped from their files."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from dnr_bench.infra.digests import content_digest, digest
from dnr_bench.infra.errors import RunError
from dnr_bench.infra.items import ItemFolder, helpful_io

log = logging.getLogger(__name__)


class ArrayFolder:
    """Float32 arrays [rows, width] beside the items of a store, each verified once per process."""

    def __init__(self, items: ItemFolder) -> None:
        self.items = items

    def open(self, stage: str, name: str) -> np.ndarray:
        """The array, mapped read-only."""
        array: np.ndarray = np.load(self._path(stage, name), mmap_mode="r")
        return array

    def is_whole(self, stage: str, name: str) -> bool:
        """Whether the array is there, with the content that was written."""
        path, manifest = self._path(stage, name), self.items.read(stage, name)
        if manifest is None or not path.exists():
            return False
        state = path.stat()
        if _checksum(path.absolute(), state.st_mtime_ns, state.st_size) != manifest["sha256"]:
            log.warning("damaged array %s in the store: computing it again", path)
            return False
        return True

    def write(
        self,
        stage: str,
        targets: Sequence[tuple[str, tuple[int, int]]],
        compute: Callable[[int], Iterator[Sequence[np.ndarray]]],
        shard: int,
    ) -> None:
        """Write the (name, shape) arrays together, going on where a killed pass left off.

        `compute(start)` yields blocks of rows in order from row `start` on, one block per array. Progress is
        noted every `shard` rows.
        """
        items = self.items
        paths = [self._path(stage, name) for name, _ in targets]
        progress = digest({"progress": [name for name, _ in targets]})
        # a pass over other arrays must not go on in the files of this one
        partials = [path.with_suffix(f".{progress[:16]}.partial") for path in paths]
        whole = all(partial.exists() for partial in partials)
        kept = start = (items.read(stage, progress) or 0) if whole else 0
        if not start:  # else a later pass would take the rows of an earlier one for its own
            items.path(stage, progress).unlink(missing_ok=True)
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
                items.write(stage, progress, start)
                kept = start
        if any(start != n_rows for _, (n_rows, _) in targets):
            raise RunError(f"{stage}: {start} rows were computed of {targets[0][1][0]}")
        _flush(rows, paths[0])
        for partial, (name, _) in zip(partials, targets, strict=True):
            self._finish(stage, name, partial)
        items.path(stage, progress).unlink(missing_ok=True)

    def _finish(self, stage: str, name: str, partial: Path) -> None:
        """Give a finished array its name, and remove what killed passes have left of it."""
        path = self._path(stage, name)
        with helpful_io(path):
            partial.replace(path)
        state = path.stat()
        checksum = _checksum(path.absolute(), state.st_mtime_ns, state.st_size)
        self.items.write(stage, name, {"sha256": checksum})
        for left in path.parent.glob(f"{name}.*.partial"):
            left.unlink()

    def _path(self, stage: str, name: str) -> Path:
        return self.items.path(stage, name).with_suffix(".npy")


@cache
def _checksum(path: Path, modified: int, size: int) -> str:
    """SHA-256 of a file's content, computed once per process unless the file changes."""
    return content_digest(path)


def _mapped(path: Path, shape: tuple[int, int], new: bool) -> np.memmap:
    """A float32 array in a file whose space on the disk is taken at once: a full disk shows here."""
    with helpful_io(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        array = np.lib.format.open_memmap(path, "w+" if new else "r+", np.float32, shape)
        if new and hasattr(os, "posix_fallocate"):
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        return array


def _flush(arrays: Sequence[np.memmap], path: Path) -> None:
    with helpful_io(path):
        for array in arrays:
            array.flush()
