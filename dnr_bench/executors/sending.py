"""Sending work to other processes: parts, functions and items as bytes; probing sets go there once."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cloudpickle
import numpy as np

from dnr_bench.data.images import ProbeSet


@dataclass(frozen=True)
class Parcel:
    """An object on its way. buffers: the content of its arrays. probes: names of the sets it refers to."""

    content: bytes
    buffers: tuple[np.ndarray, ...]
    probes: frozenset[str]

    def opened(self, probes: Mapping[str, ProbeSet]) -> Any:
        """The object; `probes` has the sets that it refers to."""
        return _Unpickler(io.BytesIO(self.content), self.buffers, probes).load()


def packed(thing: object, name_of: Callable[[ProbeSet], str] | None = None) -> Parcel:
    """An object as a parcel; `name_of` names probing sets that go by themselves, None: they go with it."""
    content, buffers, names = io.BytesIO(), list[pickle.PickleBuffer](), set[str]()

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def persistent_id(self, part: object) -> str | None:
            if name_of is None or not isinstance(part, ProbeSet):
                return None
            name = name_of(part)
            names.add(name)
            return name

    Pickler(content, protocol=5, buffer_callback=buffers.append).dump(thing)
    arrays = tuple(np.frombuffer(buffer.raw(), np.uint8) for buffer in buffers)
    return Parcel(content.getvalue(), arrays, frozenset(names))


class _Unpickler(pickle.Unpickler):
    def __init__(
        self, file: io.BytesIO, buffers: tuple[np.ndarray, ...], probes: Mapping[str, ProbeSet]
    ) -> None:
        super().__init__(file, buffers=buffers)
        self.probes = probes

    def persistent_load(self, name: str) -> ProbeSet:
        return self.probes[name]
