"""Work in batches: what a model needs is made ready in threads while the model computes."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import cache
from itertools import islice
from typing import Any, TypeVar

from dnr_bench.infra.devices import is_cuda, is_out_of_memory, make_room
from dnr_bench.infra.errors import RunError
from dnr_bench.infra.ranges import check_range

T = TypeVar("T")
P = TypeVar("P")
R = TypeVar("R")
_log = logging.getLogger(__name__)

#: So many batches are ready or being made ready before the model asks for them.
_AHEAD = 2
#: So few items are read without threads.
_FEW = 2
_THREADS = "reading ahead "


def n_workers() -> int:
    """How many threads make inputs ready: one for each core that this process may use, two at least."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(found, 2)


def in_threads(work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """The result of `work` for each item, in order, by the threads that all parts share."""
    if _is_reader():  # a thread that waited for others of the same pool could wait forever
        return map(work, items)
    return _pool(n_workers()).map(work, items)


class Batches:
    """Cuts work into batches of `size`, which is halved for good where memory does not suffice.

    device: where the work is done; models that lie there and are not at work make room first.
    """

    def __init__(self, size: int, device: str = "cpu") -> None:
        check_range(1, 65536, batch_size=size)
        self.size, self.device = size, device

    def over(self, items: Sequence[T], work: Callable[[Sequence[T]], R]) -> Iterator[R]:
        """The result of `work` for each batch of items, in order."""
        start = 0
        while start < len(items):
            block = items[start : start + self.size]
            result = self._tried(work, block)
            if result:
                yield result[0]
                start += len(block)

    def over_prepared(
        self,
        items: Sequence[T],
        prepare: Callable[[T], P],
        collate: Callable[[Sequence[P]], Any],
        work: Callable[[Any], R],
    ) -> Iterator[R]:
        """As `over`, with what is slow about reading items done in threads, ahead of the work.

        Args:
            items: may be decoded when they are asked for; several threads ask, each item once.
            prepare: makes one item ready for the model (resizes an image); only its results wait in memory.
            collate: puts the ready items of a batch together.
            work: what the model does with a batch.
        """
        with closing(_ready_batches(items, prepare, collate, self.size)) as batches:
            for ready, batch in batches:
                start = 0
                while start < len(ready):
                    part = ready[start : start + self.size]
                    result = self._tried(work, batch if len(part) == len(ready) else collate(part))
                    if result:
                        yield result[0]
                        start += len(part)

    def _tried(self, work: Callable[[Any], R], block: Any) -> tuple[R] | tuple[()]:
        """The result alone, or nothing where the batch was too large and a smaller one may do."""
        try:
            return (work(block),)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if self.size == 1:
                raise RunError(
                    "the device's memory does not even suffice for a batch of one; dtype=bfloat16 takes half,"
                    " device=cpu uses the main memory"
                ) from error
        # outside of the handler, whose traceback would hold on to what fills the memory
        if is_cuda(self.device) and make_room(self.device):
            return ()
        before, self.size = self.size, self.size // 2  # some fill a batch up, however few items it has
        _log.warning("out of memory with a batch of %d: going on with %d", before, self.size)
        return ()


def _ready_batches(
    items: Sequence[T], prepare: Callable[[T], P], collate: Callable[[Sequence[P]], Any], size: int
) -> Generator[tuple[list[P], Any], None, None]:
    """Batches in order, ready items and what `collate` makes of them; a few are made ahead."""
    blocks = [range(start, min(start + size, len(items))) for start in range(0, len(items), size)]

    def one(place: int) -> P:
        return prepare(items[place])

    if len(items) <= _FEW or _is_reader():
        for block in blocks:
            found = [one(place) for place in block]
            yield found, collate(found)
        return

    def collated(ready: Sequence[Future[P]]) -> tuple[list[P], Any]:
        found = [future.result() for future in ready]
        return found, collate(found)

    waiting: deque[tuple[list[Future[P]], Future[tuple[list[P], Any]]]] = deque()
    rest = iter(blocks)
    try:
        while True:
            for block in islice(rest, _AHEAD - len(waiting)):
                ready = [_pool(n_workers()).submit(one, place) for place in block]
                waiting.append((ready, _pool(1).submit(collated, ready)))
            if not waiting:
                return
            yield waiting.popleft()[1].result()
    finally:
        for ready, batch in waiting:
            batch.cancel()
            for future in ready:
                future.cancel()


def _is_reader() -> bool:
    return threading.current_thread().name.startswith(_THREADS)


@cache
def _pool(n_threads: int) -> ThreadPoolExecutor:
    """Threads that all parts of a process share, by how many they are: readers, and one that collates."""
    return ThreadPoolExecutor(n_threads, f"{_THREADS}{n_threads}")


if hasattr(os, "register_at_fork"):  # a forked process has none of the threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
