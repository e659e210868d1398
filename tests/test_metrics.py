from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, bootstrap
from sklearn.metrics import precision_recall_fscore_support

from dnr_bench.shapes.concepts import FACET_OF
from dnr_bench.statistics.controls import beaten_by, normalized, shuffled_mean, word_controls
from dnr_bench.statistics.intervals import estimate
from dnr_bench.statistics.matching import attribute_scores, mid_rank


def test_the_interval_is_scipys_bca_where_every_item_is_a_cluster() -> None:
    values = np.random.default_rng(0).normal(3, 1, 40)
    found = estimate(values, [str(i) for i in range(40)], seed=5)
    reference = bootstrap(
        (values,), np.mean, n_resamples=10_000, method="BCa", rng=np.random.default_rng(1)
    ).confidence_interval
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(reference.low, abs=0.03)
    assert found.high == pytest.approx(reference.high, abs=0.03)
    assert found.n == 40


def test_items_of_one_cluster_widen_the_interval() -> None:
    values = np.repeat(np.random.default_rng(0).normal(size=10), 8)
    alone = estimate(values, [str(i) for i in range(80)])
    together = estimate(values, [str(i // 8) for i in range(80)])
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_unscored_items_are_left_out_and_counted_out() -> None:
    found = estimate(np.asarray([1.0, np.nan, 3.0, 2.0]), ["a", "b", "c", "d"])
    assert (found.mean, found.n) == (2.0, 3)
    nothing = estimate(np.asarray([np.nan]), ["a"])
    assert np.isnan([nothing.mean, nothing.low, nothing.high]).all()
    assert nothing.n == 0


def test_constant_values_get_wilsons_interval_or_none() -> None:
    found = estimate(np.ones(20), [str(i) for i in range(20)])
    wilson = binomtest(20, 20).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((wilson.low, wilson.high))
    flat = estimate(np.full(5, 0.3), list("abcde"))
    assert (flat.low, flat.high) == (pytest.approx(0.3), pytest.approx(0.3))
    shared = estimate(np.ones(20), [str(i // 4) for i in range(20)])
    assert shared.low == pytest.approx(binomtest(5, 5).proportion_ci(method="wilson").low)
    none = estimate(np.zeros(20), [str(i) for i in range(20)], signed=True)
    assert (none.low, none.high) == pytest.approx((-1 + wilson.low, 1 - wilson.low))
    always = estimate(np.ones(20), [str(i) for i in range(20)], signed=True)
    assert (always.low, always.high) == (1.0, 1.0)
    alike = estimate(np.asarray([0.0, 1.0, 0.0, 1.0]), ["a", "a", "b", "b"])
    assert alike.mean == 0.5
    assert np.isnan([alike.low, alike.high]).all()
    single = estimate(np.asarray([0.2, 0.4]), ["a", "a"])
    assert np.isnan(single.low)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(0).normal(size=12)
    names = [str(i) for i in range(12)]
    assert estimate(values, names, seed=1) == estimate(values, names, seed=1)


@given(
    st.sets(st.sampled_from(sorted(FACET_OF)), min_size=1),
    st.sets(st.sampled_from(sorted(FACET_OF)), min_size=1),
)
def test_attribute_scores_agree_with_scikit_learn(named: set[str], true: set[str]) -> None:
    words = sorted(FACET_OF)
    expected = precision_recall_fscore_support(
        [word in true for word in words], [word in named for word in words], average="binary", zero_division=0
    )[:3]
    assert attribute_scores([named], [true]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("named", "true", "expected"),
    [
        ([{"red"}], [{"red"}, {"blue"}], (1, 1 / 2)),
        ([{"red"}, {"blue"}], [{"red"}, {"blue"}], (1, 1)),
        ([{"red", "blue"}], [{"red"}, {"blue"}], (1 / 2, 1 / 2)),
        ([{"red", "star"}, {"blue", "circle"}], [{"red", "circle"}, {"blue", "star"}], (1 / 2, 1 / 2)),
        ([], [{"red"}], (0, 0)),
    ],
)
def test_alternatives_are_held_against_alternatives(named, true, expected: tuple[float, float]) -> None:
    assert attribute_scores(named, true)[:2] == pytest.approx(expected)


def test_the_shuffled_mean_is_the_mean_over_deals_that_give_nobody_its_own() -> None:
    table = np.asarray([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
    deals = [(1, 2, 0), (2, 0, 1)]  # all derangements of three
    expected = np.mean([[table[i, deal[i]] for i in range(3)] for deal in deals])
    assert shuffled_mean(table, range(3)) == pytest.approx(expected)
    assert shuffled_mean(table, [0]) == pytest.approx(2.5)
    table[:, 1:] = np.nan
    assert shuffled_mean(table, [0, 1]) == 4.0


def test_mid_ranks_share_ties_and_put_the_unscored_last() -> None:
    scores = np.asarray([2.0, 5.0, 2.0, np.nan])
    assert [mid_rank(scores, i) for i in range(4)] == [2.5, 1, 2.5, 4]


def test_normalized_scores_run_from_chance_to_oracle() -> None:
    assert normalized(0.6, 0.2, 1.0) == pytest.approx(0.5)
    assert normalized(0.6, None, 1.0) is None
    assert normalized(0.6, 1.0, 1.0) is None
    assert normalized(0.9, 0.5, 0.4) is None  # true labels that are worse than chance say nothing
    assert normalized(0.2, 0.8, 0.0, higher_is_better=False) == pytest.approx(0.75)
    assert normalized(0.2, 0.0, 0.8, higher_is_better=False) is None


def test_a_neuron_without_a_value_does_not_silence_the_constant_control() -> None:
    scores = np.array([[0.2, 0.6], [np.nan, np.nan], [0.4, 0.8]])
    assert word_controls(scores) == pytest.approx({"random_word": 0.5, "best_constant": 0.7})
    assert word_controls(np.full((2, 2), np.nan)) == {}
    assert beaten_by("best_constant", 0.5, {"best_constant": 0.5}, higher_is_better=True)
    assert not beaten_by("best_constant", 0.6, {"best_constant": 0.5}, higher_is_better=True)
    assert beaten_by("best_constant", 0.6, {"best_constant": 0.5}, higher_is_better=False)
    assert not beaten_by("best_constant", 0.6, {"best_constant": 0.5}, higher_is_better=None)
    assert not beaten_by("best_constant", None, {"best_constant": 0.5}, higher_is_better=True)
    assert not beaten_by("best_constant", 0.6, {"best_constant": None}, higher_is_better=True)


def test_labels_that_reach_the_oracle_are_beaten_by_nothing() -> None:
    assert beaten_by("copy", 0.9, {"copy": 0.9}, higher_is_better=True, oracle=1.0)
    assert not beaten_by("copy", 1.0, {"copy": 1.0}, higher_is_better=True, oracle=1.0)
