"""Linear Explanations: moments and elastic net against scikit-learn, the greedy sum, planted units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import ElasticNet, LinearRegression

from dnr_bench.app.run import RunConfig, run
from dnr_bench.infra.errors import UsageError
from dnr_bench.methods.linear_explanations import (
    NO_CONCEPT,
    LinearExplanations,
    greedy_sum,
    validation_places,
)
from dnr_bench.presences.captions import CaptionPresence
from dnr_bench.statistics.moments import Moments, elastic_net, fitted, moment_correlation
from evaluators.planted import raising

BuildRun = Callable[..., RunConfig]


def drawn(seed: int = 0, images: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Eight concepts, two of them nearly one, and three neurons far from 0: a sum, noise, a constant."""
    rng = np.random.default_rng(seed)
    concepts = rng.random((images, 8)) ** 3
    concepts[:, 7] = concepts[:, 6] + rng.normal(0, 0.02, images)
    noise = rng.normal(0, 0.1, images)
    units = [1000 + 2 * concepts[:, 1] - 0.7 * concepts[:, 4] + noise, rng.normal(0, 1, images)]
    return concepts, np.stack([*units, np.full(images, 3.0)], axis=1)


def moments_of(concepts: np.ndarray, units: np.ndarray, chunk: int = 64) -> Moments:
    found = Moments()
    for first in range(0, len(concepts), chunk):
        found.add(concepts[first : first + chunk], units[first : first + chunk])
    return found


def standardized(columns: np.ndarray) -> np.ndarray:
    spread = columns.std(axis=0)
    return (columns - columns.mean(axis=0)) / np.where(spread > 1e-12, spread, 1)


@pytest.mark.parametrize("penalty", [0.01, 0.05, 0.3])
@pytest.mark.parametrize("lasso_share", [0.99, 0.5])
def test_the_elastic_net_of_moments_is_that_of_the_images(penalty: float, lasso_share: float) -> None:
    concepts, units = drawn()
    plain = ElasticNet(alpha=penalty, l1_ratio=lasso_share, fit_intercept=False, max_iter=10_000, tol=1e-7)
    wanted = plain.fit(standardized(concepts), standardized(units)).coef_.T
    found = elastic_net(moments_of(concepts, units), penalty, lasso_share)
    assert found == pytest.approx(wanted, abs=2e-3)
    assert (np.abs(found) > 1e-3).tolist() == (np.abs(wanted) > 1e-3).tolist()


def test_least_squares_and_correlations_of_moments_are_those_of_the_images() -> None:
    concepts, units = drawn()
    others, held_out = drawn(seed=1)
    train, validation = moments_of(concepts, units), moments_of(others, held_out, chunk=7)
    places = [1, 4, 6]
    weights = fitted(train, places, 0)
    wanted = LinearRegression().fit(standardized(concepts)[:, places], standardized(units)[:, 0])
    assert weights == pytest.approx(wanted.coef_, abs=1e-6)
    predicted = others[:, places] @ (weights / concepts.std(axis=0)[places])
    r = np.corrcoef(predicted, held_out[:, 0])[0, 1]
    assert moment_correlation(validation, train, places, weights, 0) == pytest.approx(r, abs=1e-9)
    assert moment_correlation(validation, train, places, weights, 2) == 0  # a constant neuron


def test_the_sum_grows_by_what_helps_on_other_images_and_stops() -> None:
    train, validation = moments_of(*drawn()), moments_of(*drawn(seed=1))
    everything = np.arange(8)
    places, weights = greedy_sum(train, validation, 0, everything, 0.02, 10)
    assert places == [1, 4]  # the one that explains most first
    assert weights[0] > 0 > weights[1]
    assert greedy_sum(train, validation, 0, everything, 0.02, 1)[0] == [1]
    assert greedy_sum(train, validation, 0, np.array([0, 2]), 0.5, 10)[0] == []  # nothing gains so much
    assert greedy_sum(train, validation, 2, everything, 0.02, 10)[0] == []  # nothing explains a constant


@pytest.mark.slow
def test_planted_units_get_sums_that_name_them(small_run: BuildRun) -> None:
    result = run(
        small_run("method=linear_explanations", "evaluator=[planted,simulation]", "probe.n_images=600")
    )
    by_name = {neuron.name: neuron for neuron in result.neurons}
    red, both = by_name["concepts:0"], by_name["concepts:50"]  # red; green or purple
    assert red.labels[0] == "red"
    assert set(both.labels[:2]) == {"green", "purple"}
    assert len(both.weights) == len(both.labels)
    assert both.answer == " + ".join(f"{w:.2f} {c}" for w, c in zip(both.weights, both.labels, strict=True))
    assert by_name["concepts:60"].unscored.startswith("dead")
    assert result.metrics["planted.attribute_f1"].mean > 0.8
    simulated = result.metrics["simulation.correlation"]
    assert simulated.mean > 0.7
    assert abs(simulated.chance) < 0.2
    assert simulated.oracle > 0.7
    assert by_name["concepts:0"].values["simulation.ablation"] > 0.8


def test_concepts_that_are_nowhere_clear_are_left_out(small_run: BuildRun) -> None:
    config = small_run("method=linear_explanations", "method.min_presence=1.0", "evaluator=[planted]")
    result = run(config)
    assert {n.unscored for n in result.neurons if not n.labels} >= {NO_CONCEPT}
    assert not any(n.labels for n in result.neurons)


def test_the_split_is_neither_empty_nor_everything() -> None:
    for n in (2, 3, 5, 1000):
        for share in (0.01, 0.2, 0.99):
            chosen = validation_places(n, share, seed=0)
            assert 0 < chosen.sum() < n
    assert validation_places(1000, 0.2, 0).sum() == 200
    assert (validation_places(1000, 0.2, 0) != validation_places(1000, 0.2, 1)).any()


def test_few_images_are_no_reason_to_fail(small_run: BuildRun) -> None:
    config = small_run("method=linear_explanations", "probe.n_images=3", "evaluator=[]")
    assert len(config.method.explain(config.neurons, config.session())) == len(config.neurons)


def test_a_neuron_that_concepts_only_hold_down_has_no_label(small_run: BuildRun) -> None:
    config = small_run("method=linear_explanations", "evaluator=[planted]")
    session = config.session()
    session._activations["concepts"] = replace(
        session.activations("concepts"),
        values=-np.asarray(session.activations("concepts").values),
        digest="turned",
    )
    found = {e.neuron.unit: e for e in config.method.explain(config.neurons, session)}
    assert found[0].labels == found[0].weights == ()
    assert found[0].unscored == NO_CONCEPT
    assert found[0].candidates[0].text == "red"
    assert found[0].candidates[0].score < 0


def test_a_concept_that_takes_another_one_back_is_an_exception() -> None:
    assert raising(["green", "green cross"], [3.2, -3.1]) == ["green but not cross"]
    assert raising(["green", "green cross"], [3.2, -0.4]) == ["green"]
    assert raising(["green", "red cross"], [3.2, -3.0]) == ["green"]
    assert raising(["green", "ring", "ring"], [3.0, 2.0, -1.0]) == ["green", "ring"]


def test_settings_that_make_no_sense_are_refused(small_run: BuildRun) -> None:
    captions = small_run("presence=captions", "method=linear_explanations", "evaluator=[]").method.presence
    assert isinstance(captions, CaptionPresence)
    good = {
        "min_presence": 0.5, "min_deviation": 1e-5, "penalty": 0.05, "lasso_share": 0.99, "min_gain": 0.02,
        "max_concepts": 10, "validation": 0.2,
    }  # fmt: skip
    for name, value in (("penalty", 0.0), ("validation", 1.0), ("lasso_share", 1.5), ("max_concepts", 0)):
        with pytest.raises(UsageError, match=name):
            LinearExplanations(captions, **{**good, name: value})
