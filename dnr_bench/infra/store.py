"""The content-addressed store of stage results: nothing expensive is computed twice.

There is no index, so processes and machines can share a folder; `items` and `arrays` hold the files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar, get_args

import numpy as np
from tqdm import tqdm

from dnr_bench.data.stages import StageCount
from dnr_bench.infra.arrays import ArrayFolder
from dnr_bench.infra.digests import Key, digest
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.items import ItemFolder, Value

T = TypeVar("T")
#: What is kept of images that were drawn.
Kept = Literal["all", "thumbnails", "none"]

#: Items whose names share so many letters share a lock: 4,096 locks per stage, however many items.
_SLOT = 3


@dataclass(frozen=True)
class _Request:
    """One call of `fill`: `compute(indices, old)` yields (index, value); old values may grow."""

    stage: str
    digests: Sequence[str]
    compute: Callable[[list[int], list[Value | None]], Iterable[tuple[int, Value]]]
    complete: Callable[[Value], bool]
    batch: int


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
    not kept is drawn again when somebody asks. touched: of each stage the names of the items that were asked
    for.
    """

    def __init__(self, root: Path | str, images: Kept = "all") -> None:
        if images not in get_args(Kept):
            raise UsageError(f"images={images!r} must be one of {', '.join(get_args(Kept))}")
        self.root, self.images = Path(root), images
        self.items = ItemFolder(self.root)
        self.arrays = ArrayFolder(self.items)
        self.counts: dict[str, StageCount] = {}
        self.touched: dict[str, set[bytes]] = {}
        self._clock = _Clock()

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
            values = compute(indices)
            with _closing(values):
                yield from zip(indices, values, strict=True)

        return self._fill(_Request(stage, _digests(keys), in_order, lambda value: True, batch))

    def fill_groups(
        self,
        stage: str,
        groups: Sequence[Sequence[T]],
        key: Callable[[T], Key],
        compute: Callable[[list[T]], Iterable[Value]],
        batch: int = 64,
    ) -> list[list[Value]]:
        """As `fill` for the items of groups: all groups share batches, and each gets its values back."""
        flat = [item for group in groups for item in group]
        values = iter(
            self.fill(
                stage,
                [key(item) for item in flat],
                lambda indices: compute([flat[i] for i in indices]),
                batch,
            )
        )
        return [[next(values) for _ in group] for group in groups]

    def fill_as_done(
        self,
        stage: str,
        keys: Sequence[Key],
        compute: Callable[[list[int]], Iterable[tuple[int, Value]]],
        batch: int = 64,
    ) -> list[Value]:
        """As `fill`, but `compute(indices)` yields (index, value) in any order, each once it is there."""
        return self._fill(
            _Request(stage, _digests(keys), lambda indices, _: compute(indices), lambda value: True, batch)
        )

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
            self.items.path(stage, name).unlink(missing_ok=True)

    def missing(self, stage: str, keys: Sequence[Key]) -> list[int]:
        """The places of the keys that have no value here, the first one of equal keys."""
        first = _first_places(_digests(keys))
        return sorted(index for name, index in first.items() if self.items.read(stage, name) is None)

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

        return self._fill(
            _Request(stage, _digests(keys), grow, lambda value: len(value[field]) >= length, batch)
        )

    def fill_arrays(
        self,
        stage: str,
        keys: Sequence[Key],
        n_rows: int,
        widths: Sequence[int],
        compute: Callable[[list[int], int], Iterator[Sequence[np.ndarray]]],
        shard: int = 2048,
    ) -> list[np.ndarray]:
        """Float32 arrays too large for memory, one per key, mapped from their files.

        `compute(indices, start)` yields blocks of rows in order from row `start` on, one block for each
        of the arrays at `indices`. Rows are written as they come; a pass that was killed goes on at the
        last `shard` rows that were finished. Equal keys are computed once.
        """
        with self.timed(stage) as count, ExitStack() as locks:
            names = [digest({**key, "rows": n_rows, "width": w}) for key, w in zip(keys, widths, strict=True)]
            self._noted(stage, names)
            for name in sorted(set(names)):
                locks.enter_context(self.items.lock(stage, name))
            first = _first_places(names)
            missing = sorted(i for name, i in first.items() if not self.arrays.is_whole(stage, name))
            if missing:
                targets = [(names[i], (n_rows, widths[i])) for i in missing]
                self.arrays.write(stage, targets, lambda start: compute(missing, start), shard)
            count.misses += len(missing)
            count.hits += len(first) - len(missing)
            return [self.arrays.open(stage, name) for name in names]

    @contextmanager
    def timed(self, stage: str) -> Iterator[StageCount]:
        """Adds the time spent inside to a stage, but for what stages within it take."""
        count = self.counts.setdefault(stage, StageCount())
        with self._clock.running(count):
            yield count

    def _noted(self, stage: str, names: Sequence[str]) -> Sequence[str]:
        """The names, which are items that this run depends on."""
        self.touched.setdefault(stage, set()).update(map(bytes.fromhex, names))
        return names

    def _fill(self, request: _Request) -> list[Value]:
        stage, digests = request.stage, self._noted(request.stage, request.digests)
        with self.timed(stage) as count:
            first = _first_places(digests)
            stored = {name: self.items.read(stage, name) for name in first}
            found = {name: v for name, v in stored.items() if v is not None and request.complete(v)}
            missing = sorted(first[name] for name in first if name not in found)
            computed = 0
            with tqdm(total=len(missing), desc=stage, disable=None if missing else True, leave=False) as bar:
                for chunk in self._claimed(request, missing):
                    now = {index: self.items.read(stage, digests[index]) for index in chunk}
                    absent = [index for index, v in now.items() if v is None or not request.complete(v)]
                    found.update({digests[i]: v for i, v in now.items() if i not in absent})
                    bar.update(len(chunk) - len(absent))
                    computing = request.compute(absent, [now[i] for i in absent]) if absent else ()
                    with _closing(computing):
                        for index, value in computing:
                            self.items.write(stage, digests[index], value)
                            found[digests[index]] = value
                            computed += 1
                            count.misses += 1
                            bar.update()
            count.hits += len(first) - computed
            return [found[name] for name in digests]

    def _claimed(self, request: _Request, missing: list[int]) -> Iterator[list[int]]:
        """Batches of the missing items while their locks are held; those locked by others come last."""
        stage, digests = request.stage, request.digests
        left_to_others: list[int] = []
        for start in range(0, len(missing), request.batch):
            with ExitStack() as held:
                slots: dict[str, bool] = {}
                mine: list[int] = []
                for index in missing[start : start + request.batch]:
                    slot = digests[index][:_SLOT]
                    if slot not in slots:
                        slots[slot] = self.items.try_lock(stage, slot, held)
                    (mine if slots[slot] else left_to_others).append(index)
                if mine:
                    yield mine
        for index in left_to_others:
            with self.items.lock(stage, digests[index][:_SLOT]):
                yield [index]


@contextmanager
def _closing(computing: Iterable[object]) -> Iterator[None]:
    """Ends a generator at once, and not when its last reference goes, where the work breaks off."""
    try:
        yield
    finally:
        close = getattr(computing, "close", None)
        if close is not None:
            close()


def _first_places(names: Sequence[str]) -> dict[str, int]:
    """Each name with the place where it stands first."""
    return {name: index for index, name in reversed(list(enumerate(names)))}


def _digests(keys: Sequence[Mapping[str, object]]) -> list[str]:
    return [digest(key) for key in keys]
