from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from dnr_bench.app.composition import load_config
from dnr_bench.app.configuration import build_run
from dnr_bench.app.run import RunResult, run
from dnr_bench.infra.errors import UsageError
from dnr_bench.shapes.planted import planted_units
from dnr_bench.shapes.probe import ShapesProbe
from dnr_bench.shapes.world import CLASSES
from evaluators.spurious import Spurious, _row


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


@pytest.mark.slow
def test_pruning_the_units_that_name_a_term_costs_the_classes_that_need_it(
    label_run: Callable[..., RunResult],
) -> None:
    labels = {unit.unit: unit.concept for unit in planted_units() if unit.concept}
    result = label_run(labels, *PRUNE)
    shapes, colors = (result.metrics[f"spurious.{name}_accuracy"] for name in ("shapes", "colors"))
    by_class = result.metrics["spurious.shapes_class_accuracy"]
    assert (shapes.item_kind, by_class.item_kind) == ("image", "class")
    assert by_class.items.keys() == set(CLASSES)
    assert by_class.mean == pytest.approx(np.mean(list(by_class.items.values())))
    assert shapes.mean < 0.7 < 0.95 < colors.mean
    assert shapes.mean < shapes.chance < shapes.controls["unpruned"]
    (table,) = result.tables
    rows = {row["pruned"]: row for row in table.rows}
    assert rows["nothing"]["accuracy"] > 0.95
    assert rows["shapes"]["accuracy"] == pytest.approx(shapes.mean)
    assert rows["shapes"]["class mean"] == pytest.approx(by_class.mean)
    assert rows["shapes"]["share"] == pytest.approx(29 / 60)
    assert rows["shapes"]["striped ring"] == by_class.items["striped ring"]
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


#: DnD's table 8: the ten classes of EuroSAT with their numbers of images, and the accuracies that it prints.
SIZES = [3000, 3000, 3000, 2500, 2500, 2000, 2500, 3000, 2500, 3000]
UNPRUNED = [95.00, 98.00, 93.67, 96.00, 96.80, 91.50, 90.80, 98.67, 92.80, 97.33]
PRUNED = [88.33, 0.00, 0.00, 62.00, 0.00, 0.00, 18.80, 0.00, 76.00, 0.00]


@pytest.mark.parametrize(
    ("accuracies", "printed", "class_mean"), [(UNPRUNED, 95.26, 95.06), (PRUNED, 24.33, 24.51)]
)
def test_the_average_of_table_8_is_one_of_images(
    accuracies: Sequence[float], printed: float, class_mean: float
) -> None:
    true = np.repeat(np.arange(10), SIZES)
    correct = np.concatenate(
        [np.arange(n) < round(n * percent / 100) for n, percent in zip(SIZES, accuracies, strict=True)]
    )
    row = _row("nothing", 0.0, [f"class {i}" for i in range(10)], correct.astype(float), true)
    assert 100 * row["accuracy"] == pytest.approx(printed, abs=0.006)
    assert 100 * row["class mean"] == pytest.approx(class_mean, abs=0.006)
