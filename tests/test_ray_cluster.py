"""Ray on two simulated machines: one that dies costs what it worked on."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dnr_bench.executors import ray as ours
from dnr_bench.executors.ray import RayExecutor
from dnr_bench.infra.items import ItemFolder
from dnr_bench.infra.work import Work
from tests.helpers.squares import Squarer, batches, squared


@pytest.fixture
def squarer(tmp_path: Path) -> Squarer:
    (tmp_path / "notes").mkdir()
    return Squarer(tmp_path / "notes", str(tmp_path))


@pytest.fixture
def two_nodes() -> Iterator[Any]:
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster
    ray.shutdown()
    cluster.shutdown()
    ours._cluster.cache_clear()


@pytest.mark.slow
def test_a_dead_actor_and_a_dead_node_cost_one_item_each(
    two_nodes: Any, squarer: Squarer, tmp_path: Path
) -> None:
    slow = replace(squarer, seconds=0.2)
    executor = RayExecutor(actors=2, num_cpus=1, threads=1)  # one on each node
    folder = ItemFolder(tmp_path / "store")
    found: dict[str, int] = {}
    dead: set[int] = set()
    for name, value in executor.run(Work("squarer", slow, squared), batches(range(60), 1), folder):
        found[name] = value
        if len(found) == 15:
            dead = {max(squarer.processes)}
            os.kill(*dead, signal.SIGKILL)
        if len(found) == 35:
            two_nodes.remove_node(next(iter(two_nodes.worker_nodes)), allow_graceful=False)
    assert found == {f"{n:064x}": n**2 for n in range(60)}
    assert len(squarer.processes - dead) >= 2
    assert {number: n for number, n in Counter(squarer.noted).items() if n > 2} == {}
    assert len(squarer.noted) <= 62
