"""The maths of rating studies: hand-computed cases, known limits, and what simulations show."""

from __future__ import annotations

import numpy as np
import pytest
import scipy

from dnr_bench.infra.errors import UsageError
from dnr_bench.results.ratings.analysis import Rating, correlation_of, rated
from dnr_bench.results.ratings.planning import PUBLISHED, Spread, plans, spread_of
from dnr_bench.results.ratings.study import CHANCE, Sample
from dnr_bench.statistics.agreement import ordinal_alpha
from dnr_bench.statistics.crossed import crossed_mean, crossed_weights
from dnr_bench.statistics.importance import (
    draw,
    planned_error,
    proposal,
    sampled_correlation,
    standardized,
)
from dnr_bench.statistics.strengths import strengths
from dnr_bench.statistics.votes import vote

NAN = float("nan")


def names(prefix: str, numbers: np.ndarray) -> list[str]:
    return [f"{prefix}{number}" for number in numbers]


# means over raters and neurons


def test_with_one_rating_per_neuron_and_many_raters_it_is_the_usual_error() -> None:
    values = np.random.default_rng(0).normal(3, 0.5, 50)
    each = np.arange(50)
    found = crossed_mean(values, names("r", each), names("n", each), (1.0, 5.0))
    assert found.error == pytest.approx(scipy.stats.sem(values), rel=1e-9)
    assert (found.raters, found.neurons, found.n) == (50, 50, 50)


def test_two_raters_who_differ_and_neurons_that_do_not_by_hand() -> None:
    # two raters, two neurons: 2 2 and 4 4; residuals -1 -1 1 1; sums of raters -2, 2: 2/1 * 8 / 16 = 1
    found = crossed_mean(np.asarray([2.0, 2.0, 4.0, 4.0]), list("aabb"), list("xyxy"), (1.0, 5.0))
    assert found.mean == 3.0
    assert found.error == pytest.approx(1.0)


def test_ratings_of_one_neuron_count_as_alike() -> None:
    rng = np.random.default_rng(1)
    neurons = np.repeat(np.arange(20), 5)
    values = rng.normal(0, 1, 20)[neurons] + rng.normal(0, 0.01, 100) + 3
    raters = np.tile(np.arange(5), 20)
    found = crossed_mean(values, names("r", raters), names("n", neurons), (-10.0, 10.0))
    assert found.error == pytest.approx(scipy.stats.sem(values.reshape(20, 5).mean(axis=1)), rel=0.05)


def test_intervals_cover_what_they_should() -> None:
    rng, inside = np.random.default_rng(2), 0
    neurons, raters = np.repeat(np.arange(30), 3), np.tile(np.arange(9), 10)
    for _ in range(400):
        values = 3 + 0.6 * rng.normal(size=30)[neurons] + 0.2 * rng.normal(size=9)[raters]
        values = values + 0.5 * rng.normal(size=90)
        found = crossed_mean(values, names("r", raters), names("n", neurons), (-7.0, 13.0))
        inside += found.low <= 3 <= found.high
    assert 0.92 <= inside / 400 <= 0.98


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_values_at_one_end_have_wilsons_interval(value: float) -> None:
    found = crossed_mean(np.full(12, value), list("abcd") * 3, list("xxxxyyyyzzzz"), (0.0, 1.0))
    low, high = scipy.stats.binomtest(int(3 * value), 3).proportion_ci(method="wilson")
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_values_that_cancel_or_are_all_equal_are_not_certain() -> None:
    cancelling = crossed_mean(np.asarray([1.0, 3.0, 3.0, 1.0]), list("aabb"), list("xyxy"), (1.0, 5.0))
    assert cancelling.error > 0.5
    assert cancelling.low < 1.7 < 2.3 < cancelling.high
    equal = crossed_mean(np.ones(4), list("aabb"), list("xyxy"), (-4.0, 4.0))
    assert np.isnan([equal.low, equal.high, equal.p]).all()
    assert crossed_mean(np.zeros(4), list("aabb"), list("xyxy"), (-4.0, 4.0)).p == 1.0


def test_p_and_interval_say_the_same() -> None:
    rng = np.random.default_rng(11)
    for _ in range(300):
        values = np.clip(np.rint(rng.normal(rng.uniform(0, 2), 1.5, 12)), -4, 4)
        found = crossed_mean(values, list("abcd") * 3, list("xxxxyyyyzzzz"), (-4.0, 4.0))
        assert (found.p < 0.05) == (found.low > 0 or found.high < 0)


def test_a_single_rater_tells_nothing_of_raters_and_nan_is_left_out() -> None:
    found = crossed_mean(np.asarray([1.0, 3.0, NAN]), list("aaa"), list("xyz"), (1.0, 5.0))
    assert (found.mean, found.n) == (2.0, 2)
    assert np.isnan([found.low, found.high, found.error, found.p]).all()


def test_the_pigeonhole_draws_raters_and_neurons() -> None:
    weights = crossed_weights(list("aabb"), list("xyxy"), 2000, 0)
    assert weights.mean() == pytest.approx(1.0, abs=0.1)
    assert ((weights[:, 0] == 0) >= (weights[:, 0] * weights[:, 1] == 0) * (weights[:, 1] > 0)).all()


# agreement


def test_alpha_of_krippendorffs_own_example() -> None:
    """Krippendorff 2011, "Computing Krippendorff's alpha-reliability", section C: ordinal .815."""
    table = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
    found = ordinal_alpha(np.asarray(table))
    assert found.mean == pytest.approx(0.815, abs=5e-4)
    assert found.n == 11  # one unit was coded once
    assert found.low < found.mean < found.high


def test_alpha_is_one_for_the_same_and_about_nothing_for_chance() -> None:
    same = np.tile(np.asarray([1.0, 2.0, 5.0, 3.0, 4.0]), (3, 1))
    assert ordinal_alpha(same).mean == 1.0
    rng = np.random.default_rng(3)
    assert abs(ordinal_alpha(rng.integers(1, 6, (3, 400)).astype(float)).mean) < 0.1
    assert np.isnan(ordinal_alpha(np.full((2, 3), 4.0)).mean)  # nothing varies
    assert ordinal_alpha(np.full((2, 3), NAN)).n == 0


# strengths


def test_two_methods_have_the_log_odds_of_winning() -> None:
    wins = np.zeros((400, 2, 2))
    wins[:300, 0, 1] = 1
    wins[300:, 1, 0] = 1
    each = [str(number) for number in range(400)]
    first, second = strengths(wins, each, each)
    assert first.mean - second.mean == pytest.approx(np.log(3), abs=0.02)
    assert first.low < first.mean < first.high
    assert first.n == 400


def test_a_method_that_never_lost_stays_finite() -> None:
    wins = np.zeros((20, 3, 3))
    wins[:, 0, 1] = wins[:, 0, 2] = wins[:, 1, 2] = 1
    each = [str(number) for number in range(20)]
    found = [strength.mean for strength in strengths(wins, each, each)]
    assert np.isfinite(found).all()
    assert found == sorted(found, reverse=True)


def test_labels_that_two_methods_share_have_the_mean_of_both_and_chance_changes_nothing() -> None:
    rows = [("A", 5.0), ("B", 1.0)]
    ratings = [
        Rating(rater, neuron, "l", method, "star", value, NAN)
        for rater in "xy"
        for neuron in ("l:0", "l:1")
        for method, value in rows
    ]
    found = rated(ratings, ["A", "B"])
    assert [(label.rating, label.ratings) for label in found.labels] == [(3.0, 2), (3.0, 2)]
    more = [*ratings, *(Rating("x", n, "l", CHANCE, "other", 1.0, NAN) for n in ("l:0", "l:1"))]
    names = ("strengths", "agreement")
    tables = [{t.name: t.rows for t in rated(r, ["A", "B", CHANCE]).tables} for r in (ratings, more)]
    assert [str(tables[0][name]) for name in names] == [str(tables[1][name]) for name in names]


# votes


def test_a_vote_weighs_raters_by_how_often_they_are_right() -> None:
    rng = np.random.default_rng(4)
    true = rng.random(300) < 0.4
    errors = np.asarray([0.02, 0.05, 0.45])
    said = np.concatenate([true ^ (rng.random(300) < error) for error in errors])
    items, raters = np.tile(np.arange(300), 3), np.repeat(np.arange(3), 300)
    found = vote(said, items, raters, np.full(300, 0.4))
    assert ((found.posterior > 0.5) == true).mean() > 0.96
    assert found.hits[0] > found.hits[2] + 0.2
    assert found.rejections[0] > found.rejections[2] + 0.2


def test_a_model_that_is_sure_and_wrong_does_not_outvote_people() -> None:
    rng = np.random.default_rng(9)
    true = rng.random(600) < 0.4
    model = np.where(true, 0.999, 0.001)
    model[rng.random(600) < 0.1] = 0.999  # of which more than half show nothing
    said, items, raters = np.tile(true, 3), np.tile(np.arange(600), 3), np.repeat(np.arange(3), 600)
    found = vote(said, items, raters, model)
    assert ((found.posterior > 0.5) == true).all()
    assert (found.hits > 0.95).all()


def test_a_single_yes_to_what_nothing_shows_counts_little() -> None:
    rng = np.random.default_rng(5)
    said = rng.random(2000) < 0.03  # nothing is there, and people err
    prior = np.full(2000, 0.001)
    found = vote(said, np.arange(2000), np.zeros(2000, int), prior)
    assert found.posterior.mean() < 0.005 < said.mean()
    assert vote(np.zeros(0, bool), np.zeros(0, int), np.zeros(0, int), np.zeros(0)).posterior.size == 0


# importance sampling


@pytest.fixture(scope="module")
def neuron() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Activations, truth (2% of images) and what a model that is not sure of itself sees."""
    rng = np.random.default_rng(6)
    true = rng.random(5000) < 0.02
    activations = true * rng.gamma(4, 1, 5000) + rng.gamma(1, 0.2, 5000)
    model = np.clip(scipy.special.expit(8 * (true - 0.5) + rng.normal(0, 2, 5000)), 0.001, 0.999)
    return activations, true, model


def test_every_image_can_be_drawn_and_constant_neurons_evenly(neuron) -> None:
    activations, _, model = neuron
    chances = proposal(activations, model)
    assert chances.sum() == pytest.approx(1.0)
    assert chances.min() >= 0.2 / 5000
    assert proposal(activations, model, uniform=1) == pytest.approx(np.full(5000, 1 / 5000))
    assert np.isfinite(proposal(np.ones(5000), model)).all()
    assert (standardized(np.ones(4)) == 0).all()


def test_the_estimate_is_unbiased_its_interval_covers_and_even_draws_need_five_times_as_many(neuron) -> None:
    activations, true, model = neuron
    z, wanted = standardized(activations), float(np.corrcoef(activations, true)[0, 1])
    errors = {}
    for uniform in (0.2, 1.0):
        chances = proposal(activations, model, uniform)
        found = []
        for seed in range(300):
            places = draw(chances, 100, seed)
            found.append(sampled_correlation(z[places], true[places].astype(float), chances[places], 5000))
        means = np.asarray([one.mean for one in found])
        known = ~np.isnan(means)
        errors[uniform] = float(np.mean((means[known] - wanted) ** 2))
        if uniform < 1:
            assert known.all()
            assert abs(means.mean() - wanted) < means.std() / 5
            assert np.mean([one.low <= wanted <= one.high for one in found]) > 0.91
            planned = planned_error(activations, model, chances) / 10
            assert planned == pytest.approx(means.std(), rel=0.35)
    assert errors[1.0] > 5 * errors[0.2]


def test_with_all_images_it_is_pearsons_r() -> None:
    rng = np.random.default_rng(7)
    activations, true = rng.normal(size=400), rng.random(400) < 0.3
    found = sampled_correlation(standardized(activations), true.astype(float), np.full(400, 1 / 400), 400)
    assert found.mean == pytest.approx(np.corrcoef(activations, true)[0, 1])


def test_where_nothing_shows_the_label_there_is_no_estimate() -> None:
    found = sampled_correlation(np.ones(5), np.zeros(5), np.full(5, 0.1), 10)
    assert np.isnan([found.mean, found.low, found.high, found.error]).all()


def test_a_label_that_most_images_show_is_estimated_by_its_absence() -> None:
    """The share of a common label can come out as 1; that of its absence is small, and its r the same."""
    rng = np.random.default_rng(10)
    true = rng.random(4000) < 0.95
    activations = true * 1.0 + rng.normal(size=4000)
    model = np.where(true, 0.95, 0.05)
    z, wanted = standardized(activations), float(np.corrcoef(activations, true)[0, 1])
    chances = proposal(activations, 1 - model)
    found = []
    for seed in range(200):
        places = draw(chances, 60, seed)
        sampled = tuple(places.tolist()), tuple(chances[places].tolist()), tuple(z[places].tolist())
        sample = Sample(
            "l:0", "l", "x", ("A",), *sampled, tuple(model[places].tolist()), 4000, 0.1, common=True
        )
        found.append(correlation_of(sample, {("x", int(place)): float(true[place]) for place in places}))
    means = np.asarray([one.mean for one in found])
    assert means.std() < 0.1
    assert means.mean() == pytest.approx(wanted, abs=0.03)
    assert all(one.low < one.mean < one.high for one in found)


# planning


def test_variances_are_found_again() -> None:
    rng = np.random.default_rng(8)
    neurons, raters = np.repeat(np.arange(300), 4), np.tile(np.arange(40), 30)
    values = rng.normal(0, 1, 300)[neurons] + rng.normal(0, 0.5, 40)[raters] + rng.normal(0, 0.7, 1200)
    found = spread_of(values, names("r", raters), names("n", neurons))
    assert found.neurons == pytest.approx(1.0, abs=0.2)
    assert found.raters == pytest.approx(0.25, abs=0.12)
    assert found.rest == pytest.approx(0.49, abs=0.1)


def test_plans_reach_the_error_and_cost_what_they_say() -> None:
    for plan in plans(0.1, 0.08, 4, 20):
        assert plan.error <= 0.1
        assert PUBLISHED[0].error(plan.neurons - 1, 20, plan.per_neuron) > 0.1  # and no smaller study does
        assert plan.ratings == plan.neurons * plan.per_neuron * 4
        assert plan.dollars == pytest.approx(plan.neurons * plan.per_neuron * 0.08)
    assert [p.dollars for p in plans(0.1, 0.08, 4, 20)] == sorted(p.dollars for p in plans(0.1, 0.08, 4, 20))


def test_too_few_raters_are_told_how_many_it_takes() -> None:
    with pytest.raises(UsageError, match=r"raters=5: .* needs 27 raters or more"):
        plans(0.1, 0.08, 4, 5, (Spread(1, 0.26, 1), Spread(1, 0, 1)))
    with pytest.raises(UsageError, match=r"error=0 must lie in"):
        plans(0, 0.08, 4, 5)


def test_a_spread_that_cannot_be_told_is_said() -> None:
    with pytest.raises(UsageError, match="between raters cannot be told"):
        spread_of(np.asarray([1.0, 2.0]), ["a", "b"], ["x", "x"])
