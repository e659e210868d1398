"""Ray against this process: what two actors gain, and what one costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dnr_bench.app.composition import load_config
from dnr_bench.app.configuration import build_run
from dnr_bench.data.images import View
from dnr_bench.executors.ray import RayExecutor
from dnr_bench.infra.store import Store
from dnr_bench.infra.work import Executor, LocalExecutor, Work
from dnr_bench.methods.describe_and_dissect.concepts import _caption
from dnr_bench.methods.describe_and_dissect.method import DescribeAndDissect
from dnr_bench.stages.exemplars import probe_view
from tests.bench.rows import Row, interleaved, seconds

#: Views that are captioned, in batches as stages make them.
_VIEWS, _BATCH = 1920, 64


def executors(folder: Path, repeats: int = 3) -> list[Row]:
    """A model-bound stage, one thread of PyTorch per model; models are loaded before anything is timed."""
    import torch

    torch.set_num_threads(1)
    config = build_run(load_config("generator=none", f"probe.n_images={_VIEWS}"))
    assert isinstance(config.method, DescribeAndDissect)
    captioner = config.method.concepts.captioner
    probe = config.session().probe
    views = [probe_view(probe, index) for index in range(_VIEWS)]
    count = iter(range(1000))

    def captioned(executor: Executor, some: Sequence[View] = views) -> float:
        store = Store(folder / str(next(count)), executor=executor)
        work = Work("captioner", captioner, _caption)
        return seconds(
            lambda: store.fill_groups("captions", [some], lambda v: {"view": v.name}, work, _BATCH)
        )

    local = LocalExecutor()
    one, two = (RayExecutor(actors=n, num_cpus=0.1, threads=1) for n in (1, 2))
    for executor in (local, one, two, two):
        captioned(executor, views[: 4 * _BATCH])
    here, by_one, by_two = interleaved([lambda e=e: captioned(e) for e in (local, one, two)], repeats)
    return [
        Row("ray: one actor / two, captions", by_one / by_two, "at least 1.8", by_one, by_two, "s",
            f"{_VIEWS} images, one thread each"),
        Row("ray: one actor / this process, captions", by_one / here, "at most 1.05", by_one, here, "s",
            "without the start of Ray"),
    ]  # fmt: skip
