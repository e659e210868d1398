"""Arrays of the store that are too large for memory: put together from blocks, mapped from their files."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from dnr_bench.infra.digests import content_digest
from dnr_bench.infra.errors import RunError
from dnr_bench.infra.items import ItemFolder, helpful_io, partial_beside

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
        """Whether the array is there, with the content that was written; else nothing says so any more."""
        path, manifest = self._path(stage, name), self.items.read(stage, name)
        if manifest is None and self.items.has(stage, name):  # written this moment, or damaged
            manifest = self.items.read(stage, name)
            if manifest is None:
                self.items.remove(stage, name)
        if manifest is None or not path.exists():
            return False
        state = path.stat()
        if _checksum(path.absolute(), state.st_mtime_ns, state.st_size) != manifest["sha256"]:
            log.warning("damaged array %s in the store: computing it again", path)
            self.items.remove(stage, name)
            return False
        return True

    def is_written(self, stage: str, name: str) -> bool:
        """Whether somebody has finished the array; its content is not looked at."""
        return self._path(stage, name).exists() and self.items.has(stage, name)

    def write(
        self,
        stage: str,
        targets: Sequence[tuple[str, tuple[int, int]]],
        blocks: Iterable[Mapping[str, np.ndarray]],
    ) -> None:
        """Write the (name, shape) arrays together.

        blocks: of rows, in order; each holds those of the first array as "0", those of the second as "1".
        """
        partials = [partial_beside(self._path(stage, name)) for name, _ in targets]
        try:
            rows = [_mapped(partial, shape) for partial, (_, shape) in zip(partials, targets, strict=True)]
            start = 0
            for block in blocks:
                for place, array in enumerate(rows):
                    array[start : start + len(block[str(place)])] = block[str(place)]
                start += len(block["0"])
            if any(start != n_rows for _, (n_rows, _) in targets):
                raise RunError(f"{stage}: {start} rows were computed of {targets[0][1][0]}")
            _flush(rows, partials[0])
            for partial, (name, _) in zip(partials, targets, strict=True):
                self._finish(stage, name, partial)
        finally:
            for partial in partials:
                partial.unlink(missing_ok=True)

    def _finish(self, stage: str, name: str, partial: Path) -> None:
        """Give a finished array its name."""
        path = self._path(stage, name)
        with helpful_io(path):
            partial.replace(path)
        state = path.stat()
        checksum = _checksum(path.absolute(), state.st_mtime_ns, state.st_size)
        self.items.write(stage, name, {"sha256": checksum})

    def _path(self, stage: str, name: str) -> Path:
        return self.items.path(stage, name).with_suffix(".npy")


@cache
def _checksum(path: Path, modified: int, size: int) -> str:
    """SHA-256 of a file's content, computed once per process unless the file changes."""
    return content_digest(path)


def _mapped(path: Path, shape: tuple[int, int]) -> np.memmap:
    """A float32 array in a file whose space on the disk is taken at once: a full disk shows here."""
    with helpful_io(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        array = np.lib.format.open_memmap(path, "w+", np.float32, shape)
        if hasattr(os, "posix_fallocate"):
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        return array


def _flush(arrays: Sequence[np.memmap], path: Path) -> None:
    with helpful_io(path):
        for array in arrays:
            array.flush()
