from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from dnr_bench.statistics.paired import (
    LABEL_CHANGE,
    ScoredItem,
    detectable_difference,
    difference,
    holm,
    linked,
    sign_flip_p,
)

NAMES = [str(i) for i in range(8)]


def records(values: list[float | None], labels: list[str]) -> dict[int, ScoredItem]:
    return {
        i: ScoredItem(f"l:{i}", [label] if label else [], {"m": float("nan") if value is None else value})
        for i, (value, label) in enumerate(zip(values, labels, strict=True))
    }


@given(st.lists(st.integers(-3, 3).map(float), min_size=8, max_size=8))
def test_sign_flips_are_counted_out_where_there_are_few(values: list[float]) -> None:
    array = np.array(values)
    means = np.array([(array * signs).mean() for signs in product([1, -1], repeat=8)])
    at_least = 1.0 if not array.any() else min(2 * (means >= abs(array.mean()) - 1e-12).mean(), 1.0)
    assert sign_flip_p(array, NAMES) == pytest.approx(at_least)


def test_what_belongs_together_flips_together() -> None:
    values = np.ones(8)
    assert sign_flip_p(values, NAMES) == pytest.approx(2 / 2**8)
    assert sign_flip_p(values, list("aabbccdd")) == pytest.approx(2 / 2**4)
    assert sign_flip_p(values, ["a"] * 8) == 1.0


def test_the_test_agrees_with_a_t_test_on_normal_differences_and_repeats() -> None:
    values = np.random.default_rng(3).normal(0.3, 1, 60)
    names = [str(i) for i in range(60)]
    found = sign_flip_p(values, names, seed=1)
    assert found == pytest.approx(ttest_1samp(values, 0).pvalue, abs=0.02)
    assert found == sign_flip_p(values, names, seed=1)


def test_p_values_are_adjusted_after_holm() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_detectable_difference_is_found_in_four_of_five_experiments() -> None:
    rng = np.random.default_rng(0)
    names = [str(i) for i in range(40)]
    size = np.mean([detectable_difference(rng.normal(0, 1, 40), names) for _ in range(200)])
    hits = [ttest_1samp(rng.normal(size, 1, 40), 0).pvalue < 0.05 for _ in range(2000)]
    assert np.mean(hits) == pytest.approx(0.8, abs=0.04)
    doubled = np.repeat(rng.normal(0, 1, 40), 2)
    assert detectable_difference(doubled, [str(i // 2) for i in range(80)]) == pytest.approx(
        detectable_difference(doubled[::2], names)
    )
    assert np.isnan(detectable_difference(np.zeros(5), NAMES[:5]))
    assert np.isnan(detectable_difference(np.array([1.0]), ["a"]))


def test_one_bad_label_for_all_is_many_witnesses_where_asked_for() -> None:
    before, after = records([1.0] * 12, list("abcdefghijkl")), records([0.0] * 12, ["bad"] * 12)
    linked_by_label, apart = (difference("m", before, after, link_labels=link) for link in (True, False))
    assert linked_by_label is not None
    assert apart is not None
    assert (linked_by_label.clusters, apart.clusters) == (1, 12)
    assert linked_by_label.p == 1.0
    assert apart.p < 0.001


def test_values_that_are_missing_are_no_evidence() -> None:
    before = records([float("nan"), 1.0, 1.0, 1.0], list("abcd"))
    found = difference("m", before, records([1.0, 1.0, 1.0, 1.0], list("abcd")))
    assert found is not None
    assert (found.n, found.p, found.mean) == (3, 1.0, 0.0)
    assert holm([0.5, float("nan"), 0.01])[::2] == [0.5, 0.02]
    equal = difference(
        "m", records([0.9] * 12, list("abcdefghijkl")), records([0.5] * 12, list("abcdefghijkl"))
    )
    assert equal is not None
    assert np.isnan(equal.effect)  # all the same but for rounding


def test_only_neurons_of_both_runs_count() -> None:
    before = records([0.0, 1.0, None, 0.5], ["a", "b", "c", "d"])
    after = {**records([1.0, 1.0, 1.0], ["a", "x", "c"]), 9: records([1.0], ["z"])[0]}
    found = difference("m", before, after)
    assert found is not None
    assert (found.n, found.clusters, found.mean, found.before, found.after) == (2, 2, 0.5, 0.5, 1.0)
    assert found.effect == pytest.approx(0.5 / np.std([1, 0], ddof=1))
    change = difference(LABEL_CHANGE, before, after)
    assert change is not None
    assert (change.n, change.mean) == (3, pytest.approx(1 / 3))
    assert difference("other", before, after) is None
    unlabeled = difference(LABEL_CHANGE, records([0.0, 1.0], ["", "b"]), records([1.0, 1.0], ["a", "b"]))
    assert unlabeled is not None
    assert unlabeled.n == 1


def test_neurons_and_labels_link_into_clusters() -> None:
    before = [
        ("n1", ["red", "a"]),
        ("n2", ["red", "blue"]),
        ("n3", ["x", "blue"]),
        ("n4", []),
        ("n5", ["", "y"]),
    ]
    names = linked(before)
    assert names[0] == names[1] == names[2]  # n1 and n2 before, n2 and n3 after
    assert len(set(names)) == 3
    assert linked([("n1", ["red"]), ("n1", ["blue"])])[0] == linked([("n1", ["red"]), ("n1", ["blue"])])[1]
    assert len(set(linked([("n1", ["", "a"]), ("n2", ["", "b"])]))) == 2  # no label is none that is shared


def test_of_several_seeds_neurons_are_linked_that_share_their_label_in_each() -> None:
    seeds = [
        ("n1", ["red"]), ("n2", ["red"]), ("n3", ["red"]),
        ("n1", ["blue"]), ("n2", ["blue"]), ("n3", ["star"]),
    ]  # fmt: skip
    names = linked(seeds)
    assert names[:3] == names[3:]
    assert names[0] == names[1] != names[2]
