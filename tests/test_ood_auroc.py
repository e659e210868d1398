from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from dnr_bench.app.run import RunResult
from dnr_bench.encoders.sentences import SentenceEncoder
from dnr_bench.infra.errors import UsageError
from dnr_bench.shapes.planted import planted_units
from dnr_bench.shapes.probe import ShapesProbe
from dnr_bench.shapes.world import CLASSES
from evaluators.ood_auroc import OodAuroc, aurocs

NAMED = [unit for unit in planted_units() if unit.kind not in ("dead", "random", "or")]


@pytest.fixture
def judged(label_run: Callable[..., RunResult]) -> Callable[[Mapping[int, str]], RunResult]:
    few = [
        f"evaluator.ood_auroc.datasets.{name}.n_images=300" for name in ("colors", "backgrounds", "shapes")
    ]
    return lambda labels: label_run(labels, "evaluator=[ood_auroc]", *few)


@pytest.mark.slow
def test_true_labels_find_the_units_that_tell_classes_apart(judged: Callable[..., RunResult]) -> None:
    result = judged({unit.unit: unit.concept for unit in NAMED})
    for name in ("colors", "backgrounds"):
        metric = result.metrics[f"ood_auroc.{name}"]
        assert metric.mean > 0.99
        assert 0.4 < metric.chance < 0.65
        assert metric.mean <= metric.oracle + 1e-9
        assert (metric.item_kind, metric.n) == ("class", 8)
        assert metric.judge.startswith("embedded:sentences (")
    items = result.metrics["ood_auroc.shapes"].items
    assert items["heart"] < 0.95 < min(value for name, value in items.items() if name != "heart")
    evaluation = result.stages["evaluation"]
    assert evaluation.hits + evaluation.misses > 0


def test_labels_of_other_units_do_not(judged: Callable[..., RunResult]) -> None:
    shifted = {unit.unit: other.concept for unit, other in zip(NAMED, NAMED[5:] + NAMED[:5], strict=True)}
    metric = judged(shifted).metrics["ood_auroc.colors"]
    assert metric.mean < 0.75


def test_units_that_share_the_nearest_label_are_averaged(judged: Callable[..., RunResult]) -> None:
    both = judged({0: "red", 1: "red"}).metrics["ood_auroc.colors"].items["red"]
    alone = [judged({unit: "red"}).metrics["ood_auroc.colors"].items["red"] for unit in (0, 1)]
    assert both == pytest.approx(np.mean(alone))
    assert alone[0] > 0.99 > alone[1]


def test_aurocs_are_scikit_learns_with_ties() -> None:
    rng = np.random.default_rng(0)
    values, is_class = rng.integers(0, 5, (60, 3)).astype(float), rng.random(60) < 0.3
    assert aurocs(values, is_class) == pytest.approx(
        [roc_auc_score(is_class, values[:, unit]) for unit in range(3)]
    )
    assert aurocs(values, np.ones(60, bool)).tolist() == [0.5] * 3


def test_held_out_images_explain_nothing_and_have_classes() -> None:
    held_out = ShapesProbe(50, "evaluation", unseen_shape=True, classes=["shape"]).load(seed=0)
    assert not set(held_out.ids) & set(ShapesProbe(50).load(seed=0).ids)
    assert held_out.classes is not None
    assert "heart" in held_out.classes
    by_color = ShapesProbe(50, "evaluation", unseen_shape=True, classes=["color"]).load(0)
    assert by_color.digest == held_out.digest  # one pass for all facets
    seen = ShapesProbe(300, "evaluation", classes=["texture", "shape"]).load(0)
    assert seen.classes is not None
    assert set(seen.classes) == set(CLASSES)
    with pytest.raises(UsageError, match=r"\['size'\] is unknown; known are"):
        ShapesProbe(50, classes=["shape", "size"])
    with pytest.raises(UsageError, match="must name at least one data set"):
        OodAuroc({}, SentenceEncoder("embedded:sentences", "cpu", 8))
