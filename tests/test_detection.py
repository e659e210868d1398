"""Activations against presence: the reference implementations' values, and what sanity tests must give."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu, pearsonr
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    jaccard_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from dnr_bench.statistics import detection
from dnr_bench.statistics.detection import METRICS, is_high, with_labels_added, with_labels_missing


def random_case(seed: int, levels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Activations of four units, with ties where there are few levels, and three concepts."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, levels, (50, 4)).astype(float)
    present = rng.random((50, 3)) < [0.1, 0.4, 0.8]
    present[:2] = [[True] * 3, [False] * 3]
    return values, values > np.quantile(values, 0.7, axis=0), present


@pytest.mark.slow
@settings(deadline=None)
@given(seed=st.integers(0, 10_000), levels=st.sampled_from([2, 5, 10_000]))
def test_every_metric_is_the_reference_implementations(seed: int, levels: int) -> None:
    values, active, present = random_case(seed, levels)
    active[0] = True
    references = {
        "auc": lambda v, _, c: roc_auc_score(c, v),
        "mad": lambda v, _, c: (v[c].mean() - v[~c].mean()) / v[~c].std() if v[~c].std() else np.nan,
        "correlation": lambda v, _, c: pearsonr(v, c).statistic,
        "auprc": lambda v, _, c: average_precision_score(c, v),
        # the neuron's activity is what the presence predicts
        "recall": lambda _, a, c: recall_score(a, c),
        "precision": lambda _, a, c: precision_score(a, c),
        "f1": lambda _, a, c: f1_score(a, c),
        "iou": lambda _, a, c: jaccard_score(a, c),
    }
    assert references.keys() == METRICS.keys()
    for name, reference in references.items():
        expected = [
            [reference(values[:, u], active[:, u], present[:, c]) for c in range(3)] for u in range(4)
        ]
        assert METRICS[name](values, active, present) == pytest.approx(
            np.asarray(expected), abs=1e-6, nan_ok=True
        )


def test_auc_is_the_mann_whitney_statistic() -> None:
    values, _, present = random_case(1, 5)
    u = mannwhitneyu(values[present[:, 0], 0], values[~present[:, 0], 0]).statistic
    n = present[:, 0].sum()
    assert detection.auc(values, present)[0, 0] == pytest.approx(u / (n * (50 - n)), abs=1e-6)


#: By how much each metric of a neuron that fires exactly where its concept is changes.
PERFECT = {
    "f1": (-1 / 3, -1 / 3),
    "iou": (-1 / 2, -1 / 2),
    "recall": (-1 / 2, 0),
    "precision": (0, -1 / 2),
}


@pytest.mark.parametrize(("metric", "changes"), PERFECT.items())
def test_a_perfect_neuron_falls_as_is_known_in_the_sanity_tests(
    metric: str, changes: tuple[float, float]
) -> None:
    rng = np.random.default_rng(0)
    present = rng.permutation(np.arange(400) < 40)
    spoiled = with_labels_missing(present, rng), with_labels_added(present, rng)
    assert [int(s.sum()) for s in spoiled] == [20, 80]
    assert not (spoiled[0] & ~present).any()
    assert not (present & ~spoiled[1]).any()
    columns = np.stack([present, *spoiled], axis=1)
    own, *after = METRICS[metric](present[:, None].astype(float), present[:, None], columns)[0]
    assert [value - own for value in after] == pytest.approx(changes, abs=1e-9)


@pytest.mark.parametrize("metric", METRICS)
def test_a_concept_that_all_or_no_images_show_has_no_value_that_misleads(metric: str) -> None:
    values = np.random.default_rng(0).random((30, 2))
    present = np.stack([np.ones(30, bool), np.zeros(30, bool)], axis=1)
    found = METRICS[metric](values, values > 0.5, present)
    if metric in ("recall", "f1", "iou", "auprc"):  # nothing of what is active is accounted for
        assert found[:, 1].tolist() == [0.0, 0.0]
    else:
        assert np.isnan(found[:, 1]).all()
    if metric in ("auc", "mad", "correlation"):
        assert np.isnan(found[:, 0]).all()


def test_otsus_threshold_parts_two_groups_and_never_calls_a_dead_unit_active() -> None:
    rng = np.random.default_rng(0)
    low, high = rng.normal(0, 0.1, 270), rng.normal(3, 0.3, 30)
    values = np.stack([np.concatenate([low, high]), np.full(300, 0.25)], axis=1)
    found = is_high(values)
    assert found[:, 0].tolist() == [False] * 270 + [True] * 30
    assert not found[:, 1].any()
