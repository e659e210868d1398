"""The content-addressed store of stage results: nothing expensive is computed twice.

There is no index, so processes and machines can share a folder; `items` and `arrays` hold the files, `claims`
tells who works on what, and `filling` computes what is missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar, get_args

import numpy as np

from dnr_bench.data.shard import Shard
from dnr_bench.data.stages import StageCount
from dnr_bench.infra.arrays import ArrayFolder
from dnr_bench.infra.claims import Sharing
from dnr_bench.infra.digests import Key, digest
from dnr_bench.infra.errors import RunError, UsageError
from dnr_bench.infra.filling import Claim, Request, by_executor, fill, fill_unread, first_places
from dnr_bench.infra.items import ItemFolder, Value
from dnr_bench.infra.work import Executor, LocalExecutor, Work, closing

T = TypeVar("T")
#: What is kept of images that were drawn.
Kept = Literal["all", "thumbnails", "none"]

#: A pass over images is stored in blocks of so many, fewer where they would take more memory than this.
_ROWS, _BLOCK_BYTES = 512, 256 * 2**20
#: How often a pass is mended whose blocks are found damaged.
_TRIES = 3


@dataclass
class _Clock:
    """Wall time by stage; the time of a stage within another counts for the inner one only."""

    inner: list[float] = field(default_factory=list)

    @contextmanager
    def running(self, count: StageCount) -> Iterator[None]:
        start = time.perf_counter()
        self.inner.append(0.0)
        try:
            yield
        finally:
            taken = time.perf_counter() - start
            count.seconds += taken - self.inner.pop()
            if self.inner:
                self.inner[-1] += taken


class Store:
    """Stage results under `root`, and the count of hits and misses since this object was made.

    images: what is kept of images that were drawn: all pixels, thumbnails for reports, or nothing; what is
    not kept is drawn again when somebody asks. executor: does the work of models; None: this process.
    locks: processes that share the folder leave work to one another; false where its file system cannot lock.
    shard: "2/4" for the second one of four processes that share a run: each goes through what is missing from
    another place on. touched: of each stage the names of the items that were asked for.
    """

    def __init__(
        self,
        root: Path | str,
        images: Kept = "all",
        executor: Executor | None = None,
        locks: bool = True,
        shard: str | None = None,
    ) -> None:
        if images not in get_args(Kept):
            raise UsageError(f"images={images!r} must be one of {', '.join(get_args(Kept))}")
        self.root, self.images = Path(root), images
        self.sharing = Sharing(locks, None if shard is None else Shard.parsed(shard))
        self.executor: Executor = executor or LocalExecutor()
        self.items = ItemFolder(self.root)
        self.arrays = ArrayFolder(self.items)
        self.counts: dict[str, StageCount] = {}
        self.touched: dict[str, set[bytes]] = {}
        self._clock = _Clock()

    def __reduce__(self) -> tuple[type[Store], tuple[object, ...]]:
        """In another process the same folder, whose models work there."""
        return Store, (self.root.resolve(), self.images, None, self.sharing.locks)

    def fill(
        self,
        stage: str,
        keys: Sequence[Key],
        compute: Callable[[list[int]], Iterable[Value]],
        batch: int = 64,
    ) -> list[Value]:
        """The values of `keys` in order; `compute(indices)` yields those that are not stored yet.

        Each value is kept as soon as it is yielded. Equal keys are computed once; an item that another
        process is working on is left to it and read afterwards.
        """

        def in_order(indices: list[int]) -> Iterator[tuple[int, Value]]:
            values = compute(indices)
            with closing(values):
                yield from zip(indices, values, strict=True)

        return self.fill_as_done(stage, keys, in_order, batch)

    def fill_as_done(
        self,
        stage: str,
        keys: Sequence[Key],
        compute: Callable[[list[int]], Iterable[tuple[int, Value]]],
        batch: int = 64,
    ) -> list[Value]:
        """As `fill`, but `compute(indices)` yields (index, value) in any order, each once it is there."""
        names = _digests(keys)

        def run(claims: Iterator[Claim]) -> Iterator[tuple[int, Value]]:
            for indices, _ in claims:
                computing = compute(indices)
                with closing(computing):
                    for index, value in computing:
                        self.items.write(stage, names[index], value)
                        yield index, value

        return self._filled(Request(stage, names, run, batch))

    def fill_groups(
        self,
        stage: str,
        groups: Sequence[Sequence[T]],
        key: Callable[[T], Key],
        work: Work,
        batch: int = 64,
        item: Callable[[T], object] = lambda of_group: of_group,
    ) -> list[list[Value]]:
        """As `fill` for the items of groups, by the executor.

        All groups share batches, and each gets its values back. `item` makes what is handed out, where
        something is missing.
        """
        flat = [of_group for group in groups for of_group in group]
        names = _digests([key(of_group) for of_group in flat])
        run = by_executor(self.executor, self.items, stage, names, work, lambda place, _: item(flat[place]))
        values = iter(self._filled(Request(stage, names, run, batch)))
        return [[next(values) for _ in group] for group in groups]

    def read(self, stage: str, key: Key) -> Value | None:
        """What is stored under a key, without counting; None where nothing is."""
        (name,) = self._noted(stage, [digest(key)])
        return self.items.read(stage, name)

    def write(self, stage: str, key: Key, value: Value) -> None:
        """Store a value that another stage has made on its way."""
        (name,) = self._noted(stage, [digest(key)])
        self.items.write(stage, name, value)

    def forget(self, stage: str, keys: Sequence[Key]) -> None:
        """Leave nothing of these items, so that they are computed anew."""
        for name in _digests(keys):
            self.items.remove(stage, name)

    def missing(self, stage: str, keys: Sequence[Key]) -> list[int]:
        """The places of the keys that have no value here, the first one of equal keys."""
        first = first_places(_digests(keys))
        return sorted(index for name, index in first.items() if self.items.read(stage, name) is None)

    def extend(
        self,
        stage: str,
        keys: Sequence[Key],
        field: str,
        length: int,
        work: Work,
        item: Callable[[int, int], object],
        finish: Callable[[int, int, Value], np.ndarray],
        batch: int = 64,
    ) -> list[dict[str, np.ndarray]]:
        """As `fill_groups` for entries that can grow: each holds at least `length` rows of an array `field`.

        Args:
            item: `item(index, have)` is handed out for an entry that has so many rows.
            finish: `finish(index, have, value)` gives the new rows from what was made of that; only they are
                stored.
        """

        def asked(place: int, old: Value | None) -> object:
            return item(place, _rows(old, field))

        def grown(place: int, old: Value | None, made: Value) -> Value:
            return _grown(old, field, finish(place, _rows(old, field), made))

        names = _digests(keys)
        run = by_executor(self.executor, self.items, stage, names, work, asked, grown)
        return self._filled(Request(stage, names, run, batch, lambda value: len(value[field]) >= length))

    def fill_arrays(
        self,
        stage: str,
        keys: Sequence[Key],
        n_rows: int,
        widths: Sequence[int],
        work: Callable[[list[int]], Work],
    ) -> list[np.ndarray]:
        """Float32 arrays too large for memory, one per key, mapped from their files.

        `work(indices)` makes of each range of rows a block for each array at `indices`, named "0", "1" and so
        on. Processes share the blocks; one that is killed loses its last one. Equal keys are computed
        once.
        """
        with self.timed(stage) as count:
            names = [digest({**key, "rows": n_rows, "width": w}) for key, w in zip(keys, widths, strict=True)]
            self._noted(stage, names)
            first = first_places(names)
            missing = sorted(i for name, i in first.items() if not self.arrays.is_whole(stage, name))
            if missing:
                targets = [(names[i], (n_rows, widths[i])) for i in missing]
                _put_together(self, stage, targets, work(missing))
            count.misses += len(missing)
            count.hits += len(first) - len(missing)
            return [self.arrays.open(stage, name) for name in names]

    @contextmanager
    def timed(self, stage: str) -> Iterator[StageCount]:
        """Adds the time spent inside to a stage, but for what stages within it take."""
        count = self.counts.setdefault(stage, StageCount())
        with self._clock.running(count):
            yield count

    def _filled(self, request: Request) -> list[Value]:
        self._noted(request.stage, request.names)
        with self.timed(request.stage) as count:
            return fill(self.items, request, self.sharing, count)

    def _noted(self, stage: str, names: Sequence[str]) -> Sequence[str]:
        """The names, which are items that this run depends on."""
        self.touched.setdefault(stage, set()).update(map(bytes.fromhex, names))
        return names


def _rows(entry: Value | None, field: str) -> int:
    return 0 if entry is None else len(entry[field])


def _grown(entry: Value | None, field: str, new: np.ndarray) -> Value:
    """The entry with new rows after its own."""
    return {field: new if entry is None else np.concatenate([entry[field], new])}


class _DamagedError(Exception):
    """A block of an array cannot be read."""


def _put_together(
    store: Store, stage: str, targets: Sequence[tuple[str, tuple[int, int]]], work: Work
) -> None:
    """Compute what is missing of the blocks of arrays, and the arrays of all blocks."""
    blocks, names = f"{stage}_blocks", [name for name, _ in targets]
    ranges = _ranges(targets)
    pieces = [digest({"arrays": names, "first": r.start, "last": r.stop}) for r in ranges]

    def finished() -> bool:
        return all(store.arrays.is_written(stage, name) for name in names)

    run = by_executor(
        store.executor, store.items, blocks, pieces, work, lambda place, _: ranges[place], enough=finished
    )
    for _ in range(_TRIES):
        fill_unread(store.items, Request(blocks, pieces, run, 1), store.sharing)
        with ExitStack() as held, suppress(_DamagedError):
            for name in sorted(set(names)) if store.sharing.locks else ():
                held.enter_context(store.items.lock(stage, name))
            if not finished():
                store.arrays.write(stage, targets, _whole(store.items, blocks, pieces))
            for name in pieces:
                store.items.remove(blocks, name)
            return
    raise RunError(f"blocks in {store.root / blocks} are damaged over and over")


def _whole(items: ItemFolder, stage: str, names: Sequence[str]) -> Iterator[Value]:
    """The blocks in order; one that cannot be read is removed, and made anew."""
    for name in names:
        value = items.read(stage, name)
        if value is None:
            items.remove(stage, name)
            raise _DamagedError
        yield value


def _ranges(targets: Sequence[tuple[str, tuple[int, int]]]) -> list[range]:
    """The rows of each block of arrays."""
    n_rows, width = targets[0][1][0], sum(columns for _, (_, columns) in targets)
    step = max(min(_ROWS, _BLOCK_BYTES // (4 * max(width, 1))), 1)
    return [range(first, min(first + step, n_rows)) for first in range(0, n_rows, step)]


def _digests(keys: Sequence[Mapping[str, object]]) -> list[str]:
    return [digest(key) for key in keys]
