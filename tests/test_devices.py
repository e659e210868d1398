"""Batches that halve, and models that take turns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from dnr_bench.app.composition import load_config
from dnr_bench.app.configuration import build_run
from dnr_bench.app.run import run
from dnr_bench.infra.batches import Batches
from dnr_bench.infra.devices import checked_device, make_room, take_turn
from dnr_bench.infra.errors import RunError, UsageError
from tests.conftest import SMALL


class Crowded:
    """Work that fits for at most `most` items at a time."""

    def __init__(self, most: int) -> None:
        self.most, self.sizes = most, list[int]()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.sizes.append(len(items))
        if len(items) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [item * 10 for item in items]


@pytest.mark.parametrize(("size", "most"), [(16, 16), (16, 5), (7, 1), (100, 3), (1, 1)])
def test_batches_are_halved_until_they_fit_and_nothing_is_lost(size: int, most: int) -> None:
    work, batches = Crowded(most), Batches(size)
    found = [value for part in batches.over(range(23), work) for value in part]
    assert found == [item * 10 for item in range(23)]
    failed = [n for n in work.sizes if n > most]
    assert len(failed) <= 6
    again = Crowded(most)
    assert list(batches.over(range(23), again))  # it remembers
    assert all(n <= most for n in again.sizes)


def test_a_batch_of_one_that_does_not_fit_is_one_message() -> None:
    with pytest.raises(RunError, match="does not even suffice for a batch of one"):
        list(Batches(4).over(range(3), Crowded(0)))
    padded = Batches(8)  # one item, of which a generator makes eight
    assert list(padded.over([1], lambda items: _fits(padded.size, 3))) == [True]
    assert padded.size == 2
    with pytest.raises(UsageError, match="batch_size=0 must be at least 1"):
        Batches(0)


def _fits(size: int, most: int) -> bool:
    if size > most:
        raise torch.OutOfMemoryError("CUDA out of memory")
    return True


class Travelling(nn.Module):
    """Remembers where it was sent; this machine has no second device to send it to."""

    def __init__(self) -> None:
        super().__init__()
        self.places: list[str] = []
        self.fits = True

    def to(self, device: object) -> Travelling:  # type: ignore[override]
        if not self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.places.append(str(device))
        return self


def test_models_stay_on_a_device_while_memory_suffices() -> None:
    first, second = Travelling(), Travelling()
    for model in (first, first, second, first):
        take_turn(model, "cuda:7")
    assert first.places == second.places == ["cuda:7"]
    take_turn(second, "cpu")
    assert second.places == ["cuda:7"]


def test_models_make_room_for_one_that_does_not_fit() -> None:
    first, second = Travelling(), Travelling()
    take_turn(first, "cuda:8")
    second.fits = False
    with pytest.raises(RunError, match="does not even hold this model"):
        take_turn(second, "cuda:8")
    assert first.places == ["cuda:8", "cpu"]
    take_turn(first, "cuda:8")
    assert first.places == ["cuda:8", "cpu", "cuda:8"]
    third = Travelling()
    take_turn(third, "cuda:8")
    assert make_room("cuda:8")  # the one that is at work stays
    assert not make_room("cuda:8")
    assert (first.places[-1], third.places[-1]) == ("cpu", "cuda:8")


def test_a_batch_that_is_too_large_for_a_gpu_is_halved_once_others_have_left() -> None:
    first, work = Travelling(), Crowded(3)
    at_work = Travelling()
    take_turn(first, "cuda:9")

    def batch(items: Sequence[int]) -> list[int]:
        take_turn(at_work, "cuda:9")
        return work(items)

    found = [value for part in Batches(8, "cuda:9").over(range(10), batch) for value in part]
    assert found == [item * 10 for item in range(10)]
    assert [size for size in work.sizes if size > 3] == [8, 8, 4]
    assert at_work.places == ["cuda:9"]
    assert first.places == ["cuda:9", "cpu"]


@pytest.mark.parametrize("name", ["cuda:31", "gpu", "tpu:0"])
def test_devices_that_are_not_here_are_said(name: str) -> None:
    with pytest.raises(UsageError, match=f"device='{name}'"):
        checked_device(name)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_run_on_a_gpu_labels_as_one_on_the_cpu(tmp_path: Path) -> None:
    labels = []
    for device in ("cpu", "cuda"):
        words = [*SMALL, f"device={device}", f"paths.store={tmp_path / device}", "evaluator=[planted]"]
        result = run(build_run(load_config(*words)))
        labels.append([record.labels for record in result.neurons])
    assert sum(a == b for a, b in zip(*labels, strict=True)) >= 0.9 * len(labels[0])
