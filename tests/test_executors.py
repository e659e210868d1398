"""What every executor keeps to: the same suite for this process and for actors of Ray."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from dnr_bench.executors import ray as ours
from dnr_bench.executors.ray import RayExecutor
from dnr_bench.infra.errors import RunError, UsageError
from dnr_bench.infra.items import ItemFolder
from dnr_bench.infra.store import Store
from dnr_bench.infra.work import Batch, Executor, LocalExecutor, Work
from tests.helpers.squares import Squarer, batches, killed, refused, shaded, squared


@pytest.fixture(scope="module")
def ray_executor() -> Iterator[RayExecutor]:
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield RayExecutor(actors=2, num_cpus=0.1, threads=1)
    ray.shutdown()
    ours._cluster.cache_clear()


@pytest.fixture(params=["local", pytest.param("ray", marks=pytest.mark.slow)])
def executor(request: pytest.FixtureRequest) -> Executor:
    return LocalExecutor() if request.param == "local" else request.getfixturevalue("ray_executor")


@pytest.fixture
def squarer(tmp_path: Path) -> Squarer:
    (tmp_path / "notes").mkdir()
    return Squarer(tmp_path / "notes", str(tmp_path))


def test_each_value_comes_with_its_name_and_is_stored(
    executor: Executor, squarer: Squarer, tmp_path: Path
) -> None:
    folder = ItemFolder(tmp_path / "store")
    found = dict(executor.run(Work("squarer", squarer, squared), batches(range(20), 3), folder))
    assert found == {f"{n:064x}": n**2 for n in range(20)}
    assert {name: folder.read("squares", name) for name in found} == found
    assert squarer.noted == list(range(20))


def test_without_a_folder_nothing_is_stored(executor: Executor, squarer: Squarer, tmp_path: Path) -> None:
    work = Work("squarer", squarer, squared)
    assert sorted(value for _, value in executor.run(work, batches(range(4), 2), None)) == [0, 1, 4, 9]
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


def test_errors_of_the_work_are_raised_as_they_are(executor: Executor, squarer: Squarer) -> None:
    with pytest.raises(UsageError, match="3 is no number"):
        list(executor.run(Work("squarer", squarer, refused), batches([3], 1), None))


def test_batches_are_taken_as_there_is_room(executor: Executor, squarer: Squarer) -> None:
    taken: list[int] = []
    running = executor.run(Work("squarer", squarer, squared), batches(range(50), 1, taken), None)
    next(running)
    assert len(taken) <= executor.width + 2
    running.close()


def test_what_breaks_off_can_be_followed_by_other_work(executor: Executor, squarer: Squarer) -> None:
    work = Work("squarer", squarer, squared)
    running = executor.run(work, batches(range(50), 1), None)
    next(running)
    running.close()
    assert len(list(executor.run(work, batches(range(5), 1), None))) == 5


def test_no_work_needs_nobody(executor: Executor, squarer: Squarer) -> None:
    assert list(executor.run(Work("squarer", squarer, squared), iter(()), None)) == []


def test_a_store_computes_each_item_once(executor: Executor, squarer: Squarer, tmp_path: Path) -> None:
    numbers = [*range(12), *range(6)]
    for expected in (12, 12):
        store = Store(tmp_path / "store", executor=executor)
        work = Work("squarer", squarer, squared)
        (found,) = store.fill_groups("squares", [numbers], lambda n: {"n": n}, work, batch=2)
        assert found == [n**2 for n in numbers]
        assert len(squarer.noted) == expected
    assert store.counts["squares"].hits == 12


def test_arrays_travel_there_and_back(executor: Executor, squarer: Squarer) -> None:
    images = [np.full((64, 64, 3), n, np.float32) for n in range(6)]
    handed = (Batch("shades", [f"{n:064x}"], [images[n]]) for n in range(6))
    found = dict(executor.run(Work("squarer", squarer, partial(shaded, 0.5)), handed, None))
    assert [np.array_equal(found[f"{n:064x}"]["rows"], images[n] / 2) for n in range(6)] == [True] * 6


@pytest.mark.slow
def test_a_batch_that_ends_every_actor_is_an_error(ray_executor: RayExecutor, squarer: Squarer) -> None:
    with pytest.raises(RunError, match="3 actors of killer have ended in the same batch of 1"):
        list(ray_executor.run(Work("killer", squarer, killed), batches(range(3), 1), None))


def test_settings_of_ray_are_checked() -> None:
    with pytest.raises(UsageError, match=r"roles\.captioner\.gpus: allowed are actors, num_cpus, num_gpus"):
        RayExecutor(roles={"captioner": {"gpus": 1}})
    with pytest.raises(UsageError, match="actors"):
        RayExecutor(actors=0)
