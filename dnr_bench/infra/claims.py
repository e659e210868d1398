"""Who works on which items of a store: locks, by which processes leave work to one another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from filelock import FileLock

from dnr_bench.data.shard import Shard
from dnr_bench.infra.items import ItemFolder

#: Items whose names share so many letters share a lock: 4,096 locks per stage, however many items.
_SLOT = 3
#: So many locks a process holds at most.
_MOST = 512


@dataclass(frozen=True)
class Sharing:
    """How processes share a store: locks: false on folders that have none. shard: of this process, if any."""

    locks: bool = True
    shard: Shard | None = None

    def in_order(self, places: Sequence[int]) -> list[int]:
        """In which order this process goes through what is missing."""
        return list(places) if self.shard is None else self.shard.own_first(places)


def _most_locks() -> int:
    """Each lock is an open file, of which systems allow few."""
    try:
        import resource
    except ImportError:  # Windows
        return 64
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else max(min(_MOST, soft // 4), 8)


class Claims:
    """The items of a stage that this process works on.

    Locks only save work: every item is written whole under a name of its own, so that what two processes
    compute at the same moment is the same.

    locked: false for folders on which locks do not work.
    """

    def __init__(self, items: ItemFolder, stage: str, locked: bool) -> None:
        self.items, self.stage, self.locked = items, stage, locked
        self._locks: dict[str, FileLock] = {}
        self._users: Counter[str] = Counter()
        self._most = _most_locks()

    def take(self, name: str) -> bool:
        """Whether this process may work on an item; False where another one does."""
        slot = name[:_SLOT]
        if self.locked and slot not in self._locks and len(self._locks) < self._most:
            lock = self.items.try_lock(self.stage, slot)
            if lock is None:
                return False
            self._locks[slot] = lock
        self._users[slot] += 1
        return True

    def done(self, name: str) -> None:
        """An item is stored: who waits for it may go on."""
        slot = name[:_SLOT]
        self._users[slot] -= 1
        if not self._users[slot] and slot in self._locks:
            self._locks.pop(slot).release()

    def wait_for(self, name: str) -> None:
        """Return when the process that works on an item has ended that."""
        with self.items.lock(self.stage, name[:_SLOT]):
            return

    def close(self) -> None:
        """Give back what is left, where work broke off."""
        for lock in self._locks.values():
            lock.release()
        self._locks.clear()
        self._users.clear()
