"""The evaluators that ask how much labels tell: discrimination, stability, abstention, unit scores."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import entropy
from sklearn.metrics import mutual_info_score

from dnr_bench.app.run import RunConfig, run
from dnr_bench.data.explanation import Explanation, ScoredCandidate
from dnr_bench.data.neuron import Neuron
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.planted import PlantedTruth
from dnr_bench.results.schema import RunResult
from dnr_bench.session import resampled, variant
from dnr_bench.stages.resampling import bootstrap_places
from evaluators.abstention import label_error, margin
from evaluators.discrimination import information
from evaluators.unit_scores import empty_share, intruders_found, polysemanticity, verdict

LabelRun = Callable[..., RunResult]
BuildRun = Callable[..., RunConfig]
TRUE = {0: "red", 1: "orange", 9: "striped", 12: "circle", 13: "square", 27: "red circle"}


def rows(result: RunResult, name: str):
    (found,) = [table.rows for table in result.tables if table.name == name]
    return found


# discrimination


@pytest.mark.parametrize("names", [list("abcd"), list("aaab"), list("aabb"), list("aaaa")])
def test_information_is_the_mutual_information_of_neuron_and_label(names: list[str]) -> None:
    expected = mutual_info_score(names, range(len(names))) / np.log(len(names))
    assert information(names) == pytest.approx(expected)
    assert information(names) * np.log(len(names)) == pytest.approx(
        entropy(np.unique(names, return_counts=True)[1])
    )


def test_information_of_one_neuron_is_unknown() -> None:
    assert np.isnan(information(["a"]))


def test_labels_of_their_own_find_their_neurons_and_shared_ones_do_not(label_run: LabelRun) -> None:
    settings = ("evaluator=[planted,discrimination]", "held_out.n_images=400")
    own = label_run(TRUE, *settings).metrics
    shared = label_run({**TRUE, 12: "circles or a star", 13: "star or circle"}, *settings).metrics
    assert own["discrimination.unique"].mean == own["discrimination.information"].mean == 1
    assert own["discrimination.neurons_per_label"].mean == 1
    assert shared["discrimination.unique"].mean == pytest.approx(4 / 6)
    assert shared["discrimination.neurons_per_label"].mean == pytest.approx(6 / 5)
    assert shared["discrimination.unique"].oracle == 1
    assert own["discrimination.first"].mean > 0.6
    rank = own["discrimination.reciprocal_rank"]
    assert rank.oracle == pytest.approx(rank.mean)  # these labels are the true ones
    assert rank.chance < 0.2 < 0.6 < rank.mean  # all 64 units of the layer compete


# unit scores


def test_two_groups_of_exemplars_are_told_from_one() -> None:
    rng = np.random.default_rng(0)
    near = rng.normal(size=(10, 8)) * 0.1 + np.eye(8)[0]
    apart = np.concatenate([near[:5], near[5:] - np.eye(8)[0] + np.eye(8)[1]])
    assert polysemanticity(apart, 0) > 0.85 > 0.5 > polysemanticity(near, 0)
    assert polysemanticity(np.ones((10, 8)), 0) == 0


def test_an_intruder_is_found_where_exemplars_are_alike() -> None:
    rng = np.random.default_rng(0)
    alike = np.tile(np.eye(8)[0], (10, 1))
    others = np.eye(8)[1:]
    assert intruders_found(alike, others, 4, 50, rng) == 1
    directions = rng.normal(size=(400, 8))
    random = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    assert intruders_found(random[:200], random[200:], 4, 2000, rng) == pytest.approx(1 / 5, abs=0.04)
    assert intruders_found(alike, alike, 4, 20, rng) == pytest.approx(1 / 5)


@pytest.mark.parametrize(
    ("of_image", "expected"),
    [(np.ones((4, 4)), 0), (np.eye(4)[:1], 3 / 4), (np.array([[2.0, 2.0, 0.0, 0.0]]), 1 / 2)],
)
def test_the_empty_share_of_a_map(of_image: np.ndarray, expected: float) -> None:
    assert empty_share(of_image) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("own", "best", "is_clear", "expected"),
    [
        (0.6, 0.65, True, "label fits"),
        (0.2, 0.65, True, "bad label"),
        (0.25, 0.31, True, "bad label"),  # it does not fit by itself
        (0.2, 0.25, True, "no label fits"),
        (0.2, 0.25, False, "unclear unit"),
        (0.1, np.nan, True, "no label fits"),
    ],
)
def test_verdicts_tell_a_bad_label_from_a_unit_that_no_label_fits(own, best, is_clear, expected: str) -> None:
    assert verdict(own, best, fits=0.3, margin=0.1, is_clear=is_clear) == expected


@pytest.mark.slow
def test_units_have_scores_whatever_their_labels(label_run: LabelRun) -> None:
    labels = {**TRUE, 12: "striped"}
    result = label_run(labels, "evaluator=[unit_scores]", "held_out.n_images=300", "probe.n_images=400")
    assert result.metrics["unit_scores.clarity"].n == 62  # of 64 units two are dead
    assert result.metrics["unit_scores.intruder"].mean > 0.5
    assert 0 < result.metrics["unit_scores.redundancy"].mean < 1
    verdicts = {row["neuron"]: row["verdict"] for row in rows(result, "unit_verdicts")}
    assert verdicts.pop("concepts:12") in ("bad label", "no label fits", "unclear unit")
    assert set(verdicts.values()) == {"label fits"}


def test_more_exemplars_are_shown_than_there_are(small_run: BuildRun) -> None:
    with pytest.raises(UsageError, match=r"n_shown=40 is more than exemplars\.n="):
        run(small_run("evaluator=[unit_scores]", "evaluator.unit_scores.n_shown=40"))


# stability


def test_a_resampled_session_computes_nothing_of_images_again(small_run: BuildRun) -> None:
    config = small_run("evaluator=[]", store="own")
    session = config.session()
    whole = session.activations("concepts").values
    places = bootstrap_places(len(session.probe.images), np.random.default_rng(0))
    assert 0.55 < len(places) / len(session.probe.images) < 0.72
    config.store.counts = {}
    part = resampled(session, places)
    assert np.array_equal(part.activations("concepts").values, whole[places])
    assert list(part.probe.ids) == [session.probe.ids[place] for place in places]
    assert np.array_equal(part.probe.images[3], session.probe.images[places[3]])
    assert part.activations("concepts").digest != session.activations("concepts").digest
    assert np.array_equal(part.probe_vectors(), session.probe_vectors()[places])
    assert "activations" not in config.store.counts
    assert variant(session, seed=5).seed == 5


@pytest.mark.slow
def test_labels_are_repeated_on_other_images_other_drawings_and_blurred_images(small_run: BuildRun) -> None:
    result = run(
        small_run(
            "evaluator=[planted,stability]", "evaluator.stability.n_samples=3",
            "evaluator.stability.seeds=[1]", "evaluator.stability.blurs=[4]",
        )
    )  # fmt: skip
    found = {name.removeprefix("stability."): metric for name, metric in result.metrics.items()}
    assert found["bootstrap"].mean > found["blur_4"].mean
    assert found["bootstrap"].chance < 0.2
    assert found["seeds"].n == found["bootstrap"].n == sum(bool(n.labels) for n in result.neurons)
    sets = {row["neuron"]: row["set"].split("; ") for row in rows(result, "stability_sets")}
    assert all(set(concepts) - {""} for concepts in sets.values())
    assert found["covered"].n == sum(bool(n.labels and n.truth != "(nothing)") for n in result.neurons)


# abstention


def explained(*scores: float, labels: tuple[str, ...] = ("red",)) -> Explanation:
    candidates = tuple(ScoredCandidate(f"c{i}", "captions", score) for i, score in enumerate(scores))
    return Explanation(Neuron("concepts", 0), candidates, labels)


def test_the_margin_is_the_lead_of_the_best_candidate() -> None:
    assert margin(explained(3.0, 1.0)) == pytest.approx(2.0)  # the standard deviation is 1
    assert margin(explained(3.0, 3.0, 0.0)) == 0
    assert margin(explained(3.0)) == margin(explained(1.0, float("nan"))) == 0


def test_errors_of_labels_are_one_where_there_is_nothing_to_name() -> None:
    def truth(concept: str, *weights: float) -> PlantedTruth:
        return PlantedTruth(Neuron("concepts", 0), "any", concept, weights)

    assert label_error(explained(1.0), truth("red")) == 0
    assert label_error(explained(1.0), truth("blue")) == 1
    assert label_error(explained(1.0), truth("")) == 1
    assert label_error(explained(1.0), truth("red or blue")) == pytest.approx(1 - 2 / 3)
    # of a weight of 1.5 in all the label names 1: recall 2/3, precision 1
    assert label_error(explained(1.0), truth("red or blue", 1.0, 0.5)) == pytest.approx(1 - 0.8)


@pytest.mark.slow
def test_each_signal_has_a_curve_between_chance_and_oracle(small_run: BuildRun) -> None:
    result = run(
        small_run(
            "evaluator=[planted,abstention]", "evaluator.abstention.n_samples=2", "held_out.n_images=200"
        )
    )
    areas = {n: m for n, m in result.metrics.items() if n.startswith("abstention.") and n.endswith(".area")}
    assert {n.split(".")[1] for n in areas} == {
        "margin", "prior", "drive", "probe_correlation", "held_out_correlation", "stability",
    }  # fmt: skip
    assert all(metric.oracle <= metric.mean for metric in areas.values())
    drive = areas["abstention.drive.area"]
    assert drive.mean < drive.chance  # the unit that detects nothing is driven least
    curves = rows(result, "abstention")
    assert {row["coverage"] for row in curves} == {round(0.1 * i, 1) for i in range(1, 11)}
    whole = {row["error"] for row in curves if row["coverage"] == 1.0}
    assert all(0 <= row["wrong"] <= row["error"] + 1e-9 for row in curves)
    assert len({round(error, 9) for error in whole}) == 1  # whoever orders them, all labels have one error
