"""Filling gaps of a store: what is missing is claimed, computed batch by batch, and kept at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tqdm import tqdm

from dnr_bench.data.stages import StageCount
from dnr_bench.infra.claims import Claims, Sharing
from dnr_bench.infra.items import ItemFolder, Value
from dnr_bench.infra.work import Batch, Executor, LocalExecutor, Work, closing

#: Items to compute: their places, and what is stored of each and may grow.
Claim = tuple[list[int], list[Value | None]]
_LOCAL = LocalExecutor()


@dataclass(frozen=True)
class Request:
    """Items of a stage that somebody asks for.

    names: of the items; the same one may stand there twice. run: computes and stores the items of claims, and
    yields (place, value). batch: so many are claimed at a time. complete: whether a stored value will do.
    """

    stage: str
    names: Sequence[str]
    run: Callable[[Iterator[Claim]], Iterator[tuple[int, Value]]]
    batch: int
    complete: Callable[[Value], bool] = lambda value: True


def fill(items: ItemFolder, request: Request, sharing: Sharing, count: StageCount) -> list[Value]:
    """The value of each item, in order; misses are counted as they are computed."""
    first = first_places(request.names)
    stored = {name: items.read(request.stage, name) for name in first}
    found = {name: v for name, v in stored.items() if v is not None and request.complete(v)}
    missing = [place for name, place in sorted(first.items(), key=lambda pair: pair[1]) if name not in found]
    computed = 0

    def look(places: Sequence[int]) -> Claim:
        """What others have not done meanwhile."""
        now = {place: items.read(request.stage, request.names[place]) for place in places}
        absent = [place for place, v in now.items() if v is None or not request.complete(v)]
        found.update({request.names[place]: v for place, v in now.items() if place not in absent})
        return absent, [now[place] for place in absent]

    for place, value in _claimed(items, request, missing, look, sharing):
        found[request.names[place]] = value
        computed += 1
        count.misses += 1
    count.hits += len(first) - computed
    return [found[name] for name in request.names]


def fill_unread(items: ItemFolder, request: Request, sharing: Sharing) -> None:
    """As `fill` for values that nobody asks for yet, as they are too many for memory."""
    missing = [i for i, name in enumerate(request.names) if not items.has(request.stage, name)]

    def look(places: Sequence[int]) -> Claim:
        absent = [place for place in places if not items.has(request.stage, request.names[place])]
        return absent, [None] * len(absent)

    for _ in _claimed(items, request, missing, look, sharing):
        pass


def _claimed(
    items: ItemFolder,
    request: Request,
    missing: Sequence[int],
    look: Callable[[Sequence[int]], Claim],
    sharing: Sharing,
) -> Iterator[tuple[int, Value]]:
    """Compute what is missing; what other processes work on is looked at again in the end."""
    claims, rest = Claims(items, request.stage, sharing.locks), sharing.in_order(missing)
    bar = tqdm(total=len(rest), desc=request.stage, disable=None if rest else True, leave=False)
    with closing(claims), bar:
        while rest:
            left: list[int] = []

            def batches(places: list[int], left: list[int]) -> Iterator[Claim]:
                for start in range(0, len(places), request.batch):
                    mine: list[int] = []
                    for place in places[start : start + request.batch]:
                        (mine if claims.take(request.names[place]) else left).append(place)
                    claim = look(mine)
                    for place in set(mine) - set(claim[0]):
                        claims.done(request.names[place])
                        bar.update()
                    if claim[0]:
                        yield claim

            done = request.run(batches(rest, left))
            with closing(done):
                for place, value in done:
                    claims.done(request.names[place])
                    bar.update()
                    yield place, value
            if len(left) == len(rest):
                claims.close()  # nothing is at work now, and who waits holds nothing
                claims.wait_for(request.names[left[0]])
            rest = left


def by_executor(
    executor: Executor,
    items: ItemFolder,
    stage: str,
    names: Sequence[str],
    work: Work,
    item: Callable[[int, Value | None], object],
    finish: Callable[[int, Value | None, Value], Value] | None = None,
    enough: Callable[[], bool] = lambda: False,
) -> Callable[[Iterator[Claim]], Iterator[tuple[int, Value]]]:
    """The `run` of a request whose items are handed to an executor; work without a role stays here.

    Args:
        executor: who does the work.
        items, stage, names: where values are stored.
        work: how values are made.
        item: `item(place, stored)` is handed out; `stored` is what there is and may grow.
        finish: `finish(place, stored, made)` gives what is stored of what was made; None: just that.
        enough: ends the work early, where somebody else has done it.
    """

    def run(claims: Iterator[Claim]) -> Iterator[tuple[int, Value]]:
        known: dict[str, tuple[int, Value | None]] = {}

        def batches() -> Iterator[Batch]:
            for places, stored in claims:
                if enough():
                    return
                pairs = list(zip(places, stored, strict=True))
                known.update({names[place]: (place, old) for place, old in pairs})
                yield Batch(
                    stage, [names[place] for place in places], [item(place, old) for place, old in pairs]
                )

        done = (executor if work.role else _LOCAL).run(work, batches(), items if finish is None else None)
        with closing(done):
            for name, made in done:
                place, old = known.pop(name)
                if finish is not None:
                    made = finish(place, old, made)
                    items.write(stage, name, made)
                yield place, made

    return run


def first_places(names: Sequence[str]) -> dict[str, int]:
    """Each name with the place where it stands first."""
    return {name: index for index, name in reversed(list(enumerate(names)))}
