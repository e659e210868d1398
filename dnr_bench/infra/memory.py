"""Memory that was let go goes back to the system, so that a long run takes no more than a short one."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache


def give_back() -> None:
    """Return free pages of the C library's heaps.

    It keeps what large arrays leave behind, in a heap for each thread, and cannot always use it again. To be
    called between chunks of work; where the library has no such function nothing happens.
    """
    _trim()(0)


@cache
def _trim() -> Callable[[int], object]:
    try:
        found: Callable[[int], object] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # not glibc
        return lambda _: None
    return found
