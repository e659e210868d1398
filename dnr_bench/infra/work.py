"""What stages hand out, and who does it: items, the part that makes their values, and executors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from dnr_bench.infra.items import ItemFolder, Value


@dataclass(frozen=True)
class Work:
    """How the values of items are made.

    role: whose work it is, by the name of a config group ("target", "captioner"); executors give each role
        copies of the part. Empty: the work of the process that asks.
    part: the model, with all that it needs.
    make: `make(part, items)` yields one value per item, in order, each once it is there. A function of a
        module, or `partial` of one, so that another process can be told of it.
    """

    role: str
    part: Any
    make: Callable[[Any, Sequence[Any]], Iterable[Value]]


@dataclass(frozen=True)
class Batch:
    """Items that are handed out together, and the names under which a stage stores their values."""

    stage: str
    names: Sequence[str]
    items: Sequence[Any]


@runtime_checkable
class Executor(Protocol):
    """Does work. `width`: so many batches are at work or ready at a time."""

    width: int

    def run(
        self, work: Work, batches: Iterator[Batch], folder: ItemFolder | None
    ) -> Iterator[tuple[str, Value]]:
        """The name and value of each item of all batches, in the order in which they are done.

        Args:
            work: how values are made.
            batches: taken one by one, as there is room for them.
            folder: where each value is stored as soon as it is made; None: whoever asks sees to that.
        """


class LocalExecutor:
    """Does one batch after another in this process."""

    width = 1

    def run(
        self, work: Work, batches: Iterator[Batch], folder: ItemFolder | None
    ) -> Iterator[tuple[str, Value]]:
        """The name and value of each item, in order."""
        for batch in batches:
            making = work.make(work.part, batch.items)
            with closing(making):
                for name, value in zip(batch.names, making, strict=True):
                    if folder is not None:
                        folder.write(batch.stage, name, value)
                    yield name, value


@contextmanager
def closing(making: object) -> Iterator[None]:
    """Ends a generator, or whatever can be closed, at once, and not when its last reference goes."""
    try:
        yield
    finally:
        close = getattr(making, "close", None)
        if close is not None:
            close()
