"""Batches whose items are made ready in threads, and images that are kept for a second look."""

from __future__ import annotations

import threading
import time
from collections import Counter

import numpy as np
import pytest
import torch

from dnr_bench.infra.batches import Batches
from dnr_bench.infra.errors import RunError
from dnr_bench.infra.memory import give_back
from dnr_bench.stages.lazy import Lazy, Recent


def test_items_are_made_ready_once_and_come_in_order() -> None:
    asked, threads = Counter[int](), set[str]()

    def load(place: int) -> int:
        asked[place] += 1
        threads.add(threading.current_thread().name)
        time.sleep(0.001 * (place % 3))
        return place

    found = list(Batches(4).over_prepared(Lazy(23, load), lambda item: item * 10, list, sum))
    assert found == [sum(range(start, min(start + 4, 23))) * 10 for start in range(0, 23, 4)]
    assert asked == Counter(range(23))
    assert threading.current_thread().name not in threads


def test_batches_that_were_made_ready_are_halved_until_they_fit() -> None:
    sizes = list[int]()

    def work(batch: list[int]) -> list[int]:
        sizes.append(len(batch))
        if len(batch) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return batch

    batches = Batches(16)
    found = [item for part in batches.over_prepared(range(40), int, list, work) for item in part]
    assert found == list(range(40))
    assert batches.size == 2
    assert sum(size > 3 for size in sizes) == 3


def test_an_error_in_a_thread_ends_the_work() -> None:
    def load(place: int) -> int:
        if place == 9:
            raise RunError("picture 9 has changed")
        return place

    parts = Batches(4).over_prepared(Lazy(100, load), int, list, list)
    assert [next(parts), next(parts)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    with pytest.raises(RunError, match="picture 9 has changed"):
        next(parts)
    assert threading.active_count() < 50


def test_few_items_are_in_memory_at_a_time() -> None:
    ready, most = 0, 0
    lock = threading.Lock()

    def prepare(item: int) -> int:
        nonlocal ready, most
        with lock:
            ready += 1
            most = max(most, ready)
        return item

    def work(batch: list[int]) -> int:
        nonlocal ready
        time.sleep(0.002)
        with lock:
            ready -= len(batch)
        return len(batch)

    assert sum(Batches(5).over_prepared(range(500), prepare, list, work)) == 500
    assert most <= 5 * 4


def test_recent_images_are_decoded_once_while_they_fit() -> None:
    asked = Counter[int]()

    def load(place: int) -> np.ndarray:
        asked[place] += 1
        return np.full((10, 20, 3), place, np.uint8)

    roomy = Recent(Lazy(50, load))
    asked.clear()  # type checks look at one
    for _ in range(3):
        assert all(roomy[place][0, 0, 0] == place for place in range(50))
    assert asked == Counter(range(50))
    assert roomy.sizes[7] == (10, 20)
    tight = Recent(Lazy(50, load), most_bytes=5 * 600)
    asked.clear()
    for _ in range(2):
        for place in range(50):
            _ = tight[place]
    assert set(asked.values()) == {2}
    assert len(tight._kept) == 5
    assert list(tight[45:48][1].shape) == [10, 20, 3]


def test_memory_goes_back_to_the_system() -> None:
    give_back()  # on every system at least no error
