"""Labels of two runs side by side; labels against looks; what labels cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import pearsonr

from dnr_bench.app.run import RunConfig, RunResult, run
from dnr_bench.data.scorecard import Scorecard
from dnr_bench.infra.errors import UsageError
from dnr_bench.shapes.planted import planted_units
from dnr_bench.statistics.intervals import estimate
from evaluators.by_layer import by_layer
from evaluators.diversity import Diversity, pearson_within, pseudo_values
from tests.helpers.results import neuron
from tests.helpers.results import result as made

PLANTED = {unit.unit: unit.concept for unit in planted_units() if unit.concept}
AGREEMENT = ("evaluator=[label_agreement]", "evaluator.label_agreement.other=")


def agreement_with(other: str) -> tuple[str, str]:
    return "evaluator=[label_agreement]", f"evaluator.label_agreement.other={other}"


def test_agreement_counts_same_labels_and_judges_the_others(
    label_run: Callable[..., RunResult], tmp_path: Path
) -> None:
    label_run({0: "red", 1: "blue", 2: "green", 9: "striped"}, "evaluator=[]").write(tmp_path / "other")
    mine = {0: "Red", 1: "blue circle", 2: "yellow", 3: "green"}
    result = label_run(mine, *agreement_with(str(tmp_path / "other")))
    values = {record.unit: record.values for record in result.neurons}
    assert [values[unit]["label_agreement.same"] for unit in (0, 1, 2)] == [1.0, 0.0, 0.0]
    assert values[3] == {}  # no label there
    assert np.isnan(values[9]["label_agreement.same"])  # no label here
    assert (
        result.metrics["label_agreement.same"].n,
        result.metrics["label_agreement.same"].unscored,
    ) == (3, 1)
    for judge in ("clip_cos", "sentence_cos", "bertscore_f1"):
        of_unit = {unit: values[unit][f"label_agreement.{judge}"] for unit in (0, 1, 2)}
        assert of_unit[0] > of_unit[1] > of_unit[2]
        assert result.metrics[f"label_agreement.{judge}"].chance < of_unit[0]
        assert result.metrics[f"label_agreement.{judge}"].judge
    file = label_run(mine, *agreement_with(str(tmp_path / "other" / "result.json")))
    assert file.metrics["label_agreement.same"] == result.metrics["label_agreement.same"]


def test_another_run_that_is_none_is_named(label_run: Callable[..., RunResult], tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("[]")
    with pytest.raises(UsageError, match=r"label_agreement\.other=.* is no result of a run"):
        label_run({0: "red"}, *agreement_with(str(tmp_path)))
    with pytest.raises(UsageError, match=r"other='nowhere'.*"):
        label_run({0: "red"}, *agreement_with("nowhere"))
    made([neuron(1, ["red"], {}, layer="fc")], {}).write(tmp_path)
    with pytest.raises(UsageError, match="has labels of 1 neurons, but of none of this run's"):
        label_run({0: "red"}, *agreement_with(str(tmp_path)))


def test_pseudo_values_stand_for_pearsons_r_within_groups() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=46)
    b, one = 1.3 * a + rng.normal(size=46), np.zeros(46, int)
    assert pearson_within(a, b, one) == pytest.approx(pearsonr(a, b).statistic, abs=1e-9)
    found = estimate(pseudo_values(a, b, one), [str(i) for i in range(46)])
    fisher = pearsonr(a, b).confidence_interval()
    assert found.mean == pytest.approx(pearsonr(a, b).statistic, abs=0.02)
    assert (found.low, found.high) == pytest.approx((fisher.low, fisher.high), abs=0.1)
    assert pseudo_values(a, 2 * a + 1, one) == pytest.approx(np.ones(46), abs=1e-9)
    groups = np.arange(46) % 2  # what tells groups apart is no likeness of labels and looks
    assert abs(pearson_within(a + 9 * groups, rng.normal(size=46) + 9 * groups, groups)) < 0.4
    assert pearson_within(a, np.ones(46), one) == 0.0


@pytest.mark.slow
def test_true_labels_are_alike_where_exemplars_are(label_run: Callable[..., RunResult]) -> None:
    few = ("evaluator=[planted,diversity]", "probe.n_images=400")
    metric = label_run(PLANTED, *few).metrics["diversity.correlation"]
    assert metric.mean == pytest.approx(metric.oracle, abs=0.05)
    assert metric.low > 0.1 > abs(metric.chance)
    assert (metric.item_kind, metric.n) == ("pair", len(metric.items))
    in_pairs = [neuron for pair in metric.items for neuron in pair.split()]
    assert len(in_pairs) == len(set(in_pairs)) > 50
    fewer = {unit: label for unit, label in PLANTED.items() if unit != int(in_pairs[0].split(":")[1])}
    left = label_run(fewer, *few).metrics["diversity.correlation"].items
    assert set(left) == set(list(metric.items)[1:])  # one lost label costs one pair
    units, concepts = list(PLANTED), list(PLANTED.values())
    shifted = label_run(dict(zip(units, concepts[9:] + concepts[:9], strict=True)), *few)
    assert shifted.metrics["diversity.correlation"].mean < metric.mean - 0.15
    assert (
        len(label_run(PLANTED, *few, "evaluator.diversity.pairs=12").metrics["diversity.correlation"].items)
        == 12
    )
    with pytest.raises(UsageError, match="pairs=1 must be at least 2"):
        Diversity(1)


@pytest.mark.slow
def test_what_is_stored_costs_no_time_and_the_same_images(small_run: Callable[..., RunConfig]) -> None:
    first, again = (run(small_run("evaluator=[cost]")) for _ in range(2))
    n = len(first.neurons)
    concepts = {c.text for record in first.neurons for c in record.candidates}
    for result in (first, again):
        assert result.metrics["cost.images_per_neuron"].mean == pytest.approx(4 * len(concepts) / n)
        assert result.metrics["cost.captions_per_neuron"].mean > 5
        assert np.isnan(result.metrics["cost.seconds_per_neuron"].low)
        described = [row["seconds per neuron"] for row in result.tables[0].rows]
        assert sum(described) == pytest.approx(result.metrics["cost.seconds_per_neuron"].mean)
    seconds = [result.metrics["cost.seconds_per_neuron"].mean for result in (first, again)]
    assert seconds[0] > seconds[1]
    rows = {row["stage"]: row for row in again.tables[0].rows}
    assert rows["captions"]["computed"] == 0
    assert rows["captions"]["with an empty store"] is None


def test_labels_from_elsewhere_cost_nothing(label_run: Callable[..., RunResult]) -> None:
    result = label_run({0: "red"}, "evaluator=[cost]")
    assert result.metrics["cost.images_per_neuron"].mean == 0
    assert result.metrics["cost.captions_per_neuron"].mean == 0


def test_figures_of_each_layer_are_means_over_its_neurons() -> None:
    items = ["layer1:0", "layer1:5", "layer2:0", "layer2:1"]
    card = Scorecard(
        group="any", metric="cos", unit="cosine", higher_is_better=True, item_kind="neuron", items=items,
        values=np.asarray([0.2, 0.4, np.nan, 0.9]), clusters=items,
    )  # fmt: skip
    (table,) = by_layer("any_by_layer", [card], seed=0)
    found = {row["layer"]: (row["mean"], row["n"]) for row in table.rows}
    assert found == {"layer1": (pytest.approx(0.3), 2), "layer2": (pytest.approx(0.9), 1)}
    assert by_layer("any_by_layer", [replace(card, items=["fc:1", "fc:2", "fc:3", "fc:4"])], seed=0) == []
