"""How far a study is, and how long the rest takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from tqdm import tqdm

from dnr_bench.outputs.terminal.console import time_left

#: Seconds between lines where there is no terminal for a bar.
_PAUSE = 30.0


class Advance(Protocol):
    """Tells that so many more trials are done."""

    def __call__(self, n: int = 1, /) -> object:
        """Add n."""


@contextmanager
def counted(total: int, what: str = "trials") -> Iterator[Advance]:
    """Show [done/total] and what is left: as a bar in a terminal, as a line now and then in a log."""
    started = told = time.monotonic()
    form = "[{n_fmt}/{total_fmt}] {desc} |{bar}| {elapsed}, about {remaining} left"
    with tqdm(total=total, desc=what, bar_format=form, disable=None, leave=False) as bar:
        done = 0

        def advance(n: int = 1, /) -> None:
            nonlocal done, told
            done += n
            bar.update(n)
            now = time.monotonic()
            if bar.disable and now - told >= _PAUSE:
                told = now
                print(f"[{done}/{total}] {what}, {time_left(now - started, done, total)}", flush=True)

        yield advance
