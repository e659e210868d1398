"""Locks of open runs: as long as a process lives, it holds those of its runs, and others see that."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

#: Tags of a run: the machine with the folder of its locks, and the name of its lock.
HOST, LOCK = "dnr_bench.host", "dnr_bench.lock"


@dataclass(frozen=True)
class RunLock:
    """A lock that is held, and the tags that tell others of it."""

    lock: FileLock
    tags: dict[str, str]


class RunLocks:
    """The locks of this process's runs, in a folder that processes of this machine share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held: dict[str, FileLock] = {}

    @property
    def here(self) -> str:
        """This machine and the folder: other runs of the same server are none of our business."""
        return f"{platform.node()} {sha256(str(self.folder).encode()).hexdigest()[:16]}"

    def take(self) -> RunLock:
        """A new lock, held."""
        self.folder.mkdir(parents=True, exist_ok=True)
        name = uuid4().hex
        lock = FileLock(self.folder / name)
        lock.acquire(timeout=0)
        return RunLock(lock, {HOST: self.here, LOCK: name})

    def hold(self, run_id: str, taken: RunLock) -> None:
        """Keep a lock until the run ends."""
        self._held[run_id] = taken.lock

    def release(self, run_id: str) -> None:
        """The run has ended."""
        if lock := self._held.pop(run_id, None):
            lock.release()
            Path(lock.lock_file).unlink(missing_ok=True)

    def is_free(self, name: str) -> bool:
        """Whether no living process holds the lock; a server's word for its name is not trusted."""
        if not re.fullmatch(r"[0-9a-f]{32}", name) or not (self.folder / name).is_file():
            return True
        try:
            with FileLock(self.folder / name, timeout=0):
                (self.folder / name).unlink(missing_ok=True)
        except Timeout:
            return False
        return True
