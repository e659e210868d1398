from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from dnr_bench.app.run import RunConfig, run
from dnr_bench.stages.correlations import pearson

BuildRun = Callable[..., RunConfig]


def test_pearson_agrees_with_numpy_however_rows_are_cut() -> None:
    rng = np.random.default_rng(0)
    left, right = (
        rng.normal(1e4, 1, (500, 3)).astype(np.float32),
        rng.normal(size=(500, 4)).astype(np.float32),
    )
    right[:, 0] += left[:, 1] - 1e4
    expected = np.corrcoef(left.T.astype(float), right.T.astype(float))[:3, 3:]
    for size in (1, 7, 499, 500):
        chunks = ((left[i : i + size], right[i : i + size]) for i in range(0, 500, size))
        assert pearson(chunks) == pytest.approx(expected, abs=1e-6)


def test_constant_columns_have_no_correlation() -> None:
    table = pearson(iter([(np.ones((5, 1)), np.arange(10.0).reshape(5, 2))]))
    assert table.tolist() == [[0.0, 0.0]]


@pytest.mark.slow
def test_probe_correlation_sees_labels_that_are_too_specific(small_run: BuildRun) -> None:
    words = ["captioner=dataset", "evaluator=[planted]", "evaluator.planted.reciprocal_rank=true"]
    results = {
        scorer: run(small_run(f"scorer={scorer}", *words)) for scorer in ("topk_log", "probe_correlation")
    }
    ranks = {scorer: found.metrics["planted.reciprocal_rank"].mean for scorer, found in results.items()}
    assert ranks["probe_correlation"] > ranks["topk_log"] + 0.2, ranks
    again = run(small_run("scorer=probe_correlation", *words))
    assert sum(stage.misses for stage in again.stages.values()) == 0
