"""The files of the store: one per item, whole or not there, each with the checksum of its content."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from filelock import FileLock, Timeout
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from dnr_bench.infra.errors import RunError

_KINDS = ("arrays", "json")

log = logging.getLogger(__name__)

#: What can be stored: anything JSON holds, or named arrays.
Value = Any


class ItemFolder:
    """Items under `root`, named by stage and digest; processes and machines can share the folder.

    An item is written under another name first and then renamed, so that a killed process leaves either a
    whole item or none. A damaged item counts as missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, stage: str, name: str) -> Path:
        """Where an item lies, whether it is there or not."""
        return self.root / stage / name[:2] / name

    def read(self, stage: str, name: str) -> Value | None:
        """The item, or None where it is missing or damaged."""
        path = self.path(stage, name)
        with helpful_io(path):
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                return None
        head, _, payload = content.partition(b"\n")
        kind = next((kind for kind in _KINDS if head == _head(stage, name, kind, payload)), None)
        if kind is None and head == _head_of_old(payload):
            kind = "json"
        if kind is None:
            log.warning("damaged item %s in the store: computing it again", path)
            return None
        return load_arrays(payload) if kind == "arrays" else json.loads(payload)

    def write(self, stage: str, name: str, value: Value) -> None:
        """Write an item, whole or not at all."""
        arrays = isinstance(value, dict) and any(isinstance(part, np.ndarray) for part in value.values())
        if arrays:  # safetensors writes an array's memory as it lies
            payload = save_arrays({field: np.ascontiguousarray(part) for field, part in value.items()})
        else:
            payload = json.dumps(value).encode()
        head = _head(stage, name, "arrays" if arrays else "json", payload)
        path = self.path(stage, name)
        partial = partial_beside(path)
        with helpful_io(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(head + b"\n" + payload)
            partial.replace(path)

    def has(self, stage: str, name: str) -> bool:
        """Whether an item is there, which may be damaged."""
        return self.path(stage, name).exists()

    def remove(self, stage: str, name: str) -> None:
        """Leave nothing of an item."""
        self.path(stage, name).unlink(missing_ok=True)

    def lock(self, stage: str, name: str) -> FileLock:
        """The lock of an item, or of several that share its name."""
        folder = self.root / ".locks"
        with helpful_io(folder):
            folder.mkdir(parents=True, exist_ok=True)
        # marks that stand in for locks would stay behind a killed process
        return FileLock(folder / f"{stage}-{name}", fallback_to_soft=False)

    def try_lock(self, stage: str, name: str) -> FileLock | None:
        """The lock of an item, taken; None where another process has it."""
        lock = self.lock(stage, name)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return None
        except (OSError, NotImplementedError) as error:
            raise RunError(
                f"{self.root} cannot be locked: {error}; on a file system without locks set store.locks=false"
            ) from error
        return lock


def partial_beside(path: Path) -> Path:
    """Where a file is written before it gets its name; no other process of any machine takes the same."""
    return path.with_name(f"{path.name}.{uuid4().hex[:12]}.partial")


def _head(stage: str, name: str, kind: str, payload: bytes) -> bytes:
    """The first line of an item: a checksum of where it belongs, its kind and its content."""
    place = f"{stage}/{name} {kind}\n".encode()
    return f"{kind} {sha256(place + payload).hexdigest()}".encode()


def _head_of_old(payload: bytes) -> bytes:
    """That of releases up to 0.2, by which paid answers are still found; all else has other names now."""
    return f"{sha256(payload).hexdigest()} json".encode()


@contextmanager
def helpful_io(path: Path) -> Iterator[None]:
    """Errors of the file system raise `RunError` with what to do."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"cannot use the store at {path.parent}: {error.strerror or error}. "
            "Everything finished before is kept; free some space or set paths.store to another folder."
        ) from error
