from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from dnr_bench.app.configuration import build_run, load_config
from dnr_bench.app.run import RunResult, run
from dnr_bench.infra.errors import UsageError
from dnr_bench.shapes.probe import ShapesProbe
from dnr_bench.shapes.world import CLASSES, planted_units
from evaluators.spurious import Spurious


def test_terms_are_counted_as_whole_words_over_labeled_units(tmp_path: Path) -> None:
    labels = ["Fishing boats", "fish", "pinkish", "a PINK sky", "purple"]
    rows = "".join(f"l,{unit},{label}\n" for unit, label in enumerate(labels))
    (tmp_path / "labels.csv").write_text(f"layer,unit,label\n{rows}")
    result = run(
        build_run(
            load_config(
                "method=precomputed",
                f"method.path={tmp_path / 'labels.csv'}",
                "target=none",
                "target.layers={l:6}",
                "probe=none",
                "neurons.layers=[l]",
                "evaluator=[spurious]",
                "evaluator.spurious.terms={fishing:[fishing],colors:[pink,purple],background:[background]}",
                f"paths.store={tmp_path / 'store'}",
            )
        )
    )
    found = {name: (metric.mean, metric.n) for name, metric in result.metrics.items()}
    assert found == {
        "spurious.fishing": (pytest.approx(0.2), 5),
        "spurious.colors": (pytest.approx(0.4), 5),
        "spurious.background": (0.0, 5),
    }
    assert result.metrics["spurious.fishing"].low < 0.2 < result.metrics["spurious.fishing"].high


def spurious(terms: Mapping[str, Sequence[str] | str]) -> Spurious:
    images = ShapesProbe(40, "evaluation", classes=["texture", "shape"])
    return Spurious(terms, prune=False, images=images, output="fc", random_prunings=2)


PRUNE = (
    "evaluator=[spurious]",
    "evaluator.spurious.terms={shapes:[circle,square,triangle,star,cross,ring,crescent],colors:[red,blue]}",
    "evaluator.spurious.prune=true",
    "held_out.n_images=300",
)


def test_pruning_the_units_that_name_a_term_costs_the_classes_that_need_it(
    label_run: Callable[..., RunResult],
) -> None:
    labels = {unit.unit: unit.concept for unit in planted_units() if unit.concept}
    result = label_run(labels, *PRUNE)
    shapes, colors = (result.metrics[f"spurious.{name}_accuracy"] for name in ("shapes", "colors"))
    assert shapes.item_kind == "class"
    assert shapes.items.keys() == set(CLASSES)
    assert shapes.mean < 0.7 < 0.95 < colors.mean
    assert shapes.mean < shapes.chance < shapes.controls["unpruned"]
    (table,) = result.tables
    rows = {row["pruned"]: row for row in table.rows}
    assert rows["nothing"]["mean"] > 0.95
    assert rows["shapes"]["share"] == pytest.approx(29 / 60)
    assert rows["shapes"]["striped ring"] == shapes.items["striped ring"]
    again = label_run(labels, *PRUNE)
    assert again.metrics["spurious.shapes_accuracy"] == shapes


def test_classes_that_are_no_units_of_the_output_are_named(label_run: Callable[..., RunResult]) -> None:
    with pytest.raises(UsageError, match="has classes that no unit of fc is called: blue, green"):
        label_run({0: "red"}, *PRUNE, "held_out.classes=[color]")
    with pytest.raises(UsageError, match="has no classes"):
        label_run({0: "red"}, *PRUNE, "held_out.classes=[]")
    with pytest.raises(UsageError, match=r"spurious\.output='concepts': its units have no known names"):
        label_run({0: "red"}, *PRUNE, "evaluator.spurious.output=concepts")


def test_wrong_terms_are_named() -> None:
    with pytest.raises(UsageError, match="must name at least one term"):
        spurious({})
    with pytest.raises(UsageError, match=r"terms\.water='boat' must be a list of words"):
        spurious({"water": "boat"})
    with pytest.raises(UsageError, match=r"terms\.water=\['boat', ''\] must be a list of words"):
        spurious({"water": ["boat", ""]})
    with pytest.raises(UsageError, match="names must differ"):
        spurious({"wa ter": ["boat"], "wa_ter": ["sea"]})
