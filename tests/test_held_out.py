"""Labels as predictions about held-out images, on planted units whose true labels are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from dnr_bench.app.run import RunResult
from dnr_bench.infra.errors import UsageError
from dnr_bench.shapes.planted import planted_units
from dnr_bench.statistics.detection import cosy_auc, cosy_mad

PLANTED = {unit.unit: unit.concept for unit in planted_units() if unit.concept}
SMALL = ("evaluator=[planted,held_out]", "held_out.n_images=400")
METRICS = ("cosy_auc", "cosy_mad", "correlation", "auprc", "f1", "iou")


@pytest.fixture
def judged(label_run: Callable[..., RunResult]) -> Callable[..., RunResult]:
    return lambda labels, *overrides: label_run(labels, *SMALL, *overrides)


@pytest.mark.slow
def test_true_labels_stand_at_the_oracle_and_far_above_other_neurons_labels(
    judged: Callable[..., RunResult],
) -> None:
    result = judged(PLANTED)
    for name in METRICS:
        metric = result.metrics[f"held_out.{name}"]
        assert metric.mean == pytest.approx(metric.oracle)
        assert metric.low > metric.chance + 0.2
        assert metric.low > metric.controls["best_constant"]
        assert metric.judge
    assert result.metrics["held_out.cosy_auc"].chance == pytest.approx(0.5, abs=0.1)
    assert result.metrics["held_out.correlation"].chance == pytest.approx(0, abs=0.1)
    (table,) = result.tables
    rows = {(row["metric"], row["test"]): row for row in table.rows}
    assert len(rows) == 16
    for name, changes in {"f1": (-1 / 3, -1 / 3), "iou": (-1 / 2, -1 / 2), "recall": (-1 / 2, 0)}.items():
        for test, change in zip(("missing labels", "extra labels"), changes, strict=True):
            row = rows[name, test]  # odd numbers of images have no exact half
            assert row["change of a perfect neuron"] == pytest.approx(change, abs=0.04)
    assert rows["f1", "extra labels"]["high"] < 0
    assert rows["f1", "extra labels"]["neurons that fall"] > 0.9


@pytest.mark.slow
def test_labels_of_other_units_score_as_chance_does(judged: Callable[..., RunResult]) -> None:
    units, concepts = list(PLANTED), list(PLANTED.values())
    result = judged(dict(zip(units, concepts[7:] + concepts[:7], strict=True)))
    for name in METRICS:
        metric = result.metrics[f"held_out.{name}"]
        assert metric.normalized < 0.2
    assert result.metrics["held_out.f1"].oracle > 0.8


def test_a_label_that_no_image_shows_counts_as_wrong_and_a_dead_unit_is_unscored(
    judged: Callable[..., RunResult],
) -> None:
    result = judged({0: "red", 1: "orange heart", 60: "red"})
    values = {record.unit: record.values for record in result.neurons}
    assert values[0]["held_out.f1"] > 0.7
    assert values[1]["held_out.f1"] < 0.2
    assert values[60]["held_out.f1"] == 0.0
    assert np.isnan(values[60]["held_out.cosy_mad"])
    assert result.metrics["held_out.cosy_mad"].unscored == 62  # it and those without a label
    assert result.metrics["held_out.f1"].unscored == 61
    assert result.metrics["held_out.correlation"].controls["best_constant"] < 1  # of the others


def test_images_that_explain_are_refused(judged: Callable[..., RunResult]) -> None:
    with pytest.raises(UsageError, match="400 of the 400 images of shapes-probe-400 explain neurons"):
        judged({0: "red"}, "held_out.split=probe")
    with pytest.raises(UsageError, match="explain neurons"):  # blurred ones do so, too
        judged({0: "red"}, "held_out.split=probe", "blur=2")


def test_cosy_against_reference_values() -> None:
    rng = np.random.default_rng(0)
    drawn, control = rng.integers(0, 6, (12, 2)).astype(float), rng.integers(0, 5, (70, 2)).astype(float)
    u = [mannwhitneyu(drawn[:, i], control[:, i]).statistic / (12 * 70) for i in range(2)]
    assert cosy_auc(drawn, control) == pytest.approx(u, abs=1e-9)
    expected = (drawn.mean(axis=0) - control.mean(axis=0)) / control.std(axis=0)
    assert cosy_mad(drawn, control) == pytest.approx(expected, abs=1e-9)
    assert np.isnan(cosy_mad(drawn, np.zeros((5, 2)))).all()
