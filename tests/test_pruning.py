"""Pruning units whose labels stand alone: it costs what those units did for the classes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dnr_bench.app.run import RunConfig, RunResult, run
from dnr_bench.infra.errors import UsageError
from dnr_bench.shapes.planted import planted_units

#: The classes of the target are textures of shapes.
NEEDED = [unit.unit for unit in planted_units() if unit.kind in ("texture", "shape")]
IDLE = [unit.unit for unit in planted_units() if unit.kind in ("color", "background")]
WORDS = (
    "red", "blue background", "green star", "yellow", "white ring", "purple", "orange square", "pink",
    "striped", "dotted cross", "checkered background", "heart", "solid", "green", "circle", "triangle",
)  # fmt: skip
SMALL = (
    "evaluator=[pruning]",
    "evaluator.pruning.phi=0.999",
    "evaluator.pruning.trees=30",
    "held_out.n_images=400",
)


def pruned(label_run: Callable[..., RunResult], alone: list[int], together: list[int]) -> RunResult:
    """Units of one list have a label of their own each, those of the other list share one."""
    labels = {unit: f"{WORDS[i]}" for i, unit in enumerate(alone)} | dict.fromkeys(together, "crescent")
    return label_run(labels, *SMALL)


def test_pruning_what_the_classes_need_costs_more_than_chance(label_run: Callable[..., RunResult]) -> None:
    result = pruned(label_run, NEEDED, IDLE)
    metrics = {name.removeprefix("pruning.concepts."): m for name, m in result.metrics.items()}
    assert metrics["pruned"].mean == pytest.approx(len(NEEDED) / len(NEEDED + IDLE))
    assert metrics["gain_fixed"].high < 0
    assert metrics["accuracy_fixed"].mean < metrics["accuracy_fixed"].chance
    assert metrics["accuracy"].mean > metrics["accuracy_fixed"].mean  # a new forest makes do with others
    assert metrics["accuracy"].controls["unpruned"] > 0.95 > 0.3 > metrics["accuracy"].controls["all_pruned"]
    assert (metrics["accuracy"].item_kind, metrics["accuracy"].n) == ("image", 200)


@pytest.mark.slow
def test_pruning_what_no_class_needs_costs_nothing(label_run: Callable[..., RunResult]) -> None:
    result = pruned(label_run, IDLE, NEEDED)
    metrics = {name.removeprefix("pruning.concepts."): m for name, m in result.metrics.items()}
    assert metrics["accuracy_fixed"].mean > 0.95
    assert metrics["gain_fixed"].low > 0
    (table,) = result.tables
    (row,) = table.rows
    assert row["random_fixed_lowest"] <= row["random_fixed"] <= row["random_fixed_highest"] < row["unpruned"]
    assert row["accuracy_fixed"] == metrics["accuracy_fixed"].mean
    assert pruned(label_run, IDLE, NEEDED).metrics == result.metrics


@pytest.mark.slow
def test_layers_are_pruned_one_by_one_and_together(small_run: Callable[..., RunConfig]) -> None:
    layers = ("neurons.layers=[layer4,concepts,fc]", "neurons.units=[0,9,13,20,27]")
    result = run(small_run(*SMALL, *layers))
    names = {name.split(".")[1] for name in result.metrics}
    assert names == {"layer4", "concepts", "all_layers"}  # fc comes after the embedding
    assert result.metrics["pruning.layer4.accuracy"].controls["all_pruned"] < 0.3
    pruned_units = [
        sum(record.values.get(f"pruning.{layer}.pruned", 0) for record in result.neurons)
        for layer in ("layer4", "concepts", "all_layers")
    ]
    assert pruned_units[2] == pruned_units[0] + pruned_units[1] > 0


def test_what_cannot_be_pruned_is_named(
    label_run: Callable[..., RunResult], small_run: Callable[..., RunConfig]
) -> None:
    with pytest.raises(UsageError, match=r"pruning\.layers: layer4 is not described by this run"):
        small_run("evaluator=[pruning]", "evaluator.pruning.layers=[layer4]")
    with pytest.raises(UsageError, match="embedding='embedding' is no layer of the target; it has"):
        label_run({0: "red"}, *SMALL, "evaluator.pruning.embedding=embedding")
    with pytest.raises(UsageError, match="has no classes"):
        label_run({0: "red"}, *SMALL, "held_out.classes=[]")
    with pytest.raises(UsageError, match="explain neurons"):
        label_run({0: "red"}, *SMALL, "held_out.split=probe")
