"""Heavy things that are made when they are first asked for."""

from __future__ import annotations

from collections.abc import Callable
from threading import RLock
from typing import Generic, TypeVar

T = TypeVar("T")


class OnDemand(Generic[T]):
    """A model that is loaded on the first call and kept, whichever thread calls first.

    A run whose results are all stored loads none. What is inside does not count for `code_of`: what a model
    depends on belongs into its part's fingerprint, which must be the same before and after it is loaded.
    """

    def __init__(self, load: Callable[[], T]) -> None:
        self._load, self._lock = load, RLock()
        self._loaded: list[T] = []

    def __reduce__(self) -> tuple[type[OnDemand[T]], tuple[Callable[[], T]]]:
        """Another process loads the thing itself."""
        return OnDemand, (self._load,)

    def __call__(self) -> T:
        """The thing itself, loaded if it is not yet."""
        """The thing itself, loaded if it is not yet."""
        with self._lock:
            if not self._loaded:
                self._loaded.append(self._load())
            return self._loaded[0]
