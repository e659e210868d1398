"""Exact counterfactual pairs, and words left out of labels."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from dnr_bench.results.schema import RunResult
from dnr_bench.shapes.concepts import parse
from dnr_bench.shapes.factorial import (
    FactorialProbe,
    cells,
    contrasts,
    necessity,
    responses,
    sufficiency,
)
from dnr_bench.statistics.wording import Variant, Wording, word_variants

LabelRun = Callable[..., RunResult]
WORDING = Wording(["a", "on", "or", "the"], ["background"])


def ideal(truth: str) -> np.ndarray:
    """What a perfect unit gives in each cell [1, cells]."""
    return np.asarray([[float(parse(truth).matches(cell)) for cell in cells()]])


def judged(label: str, truth: str) -> tuple[dict[str, float], dict[str, float]]:
    found = contrasts(parse(label))
    assert found is not None
    unit = ideal(truth)
    return (
        {name: float(values[0]) for name, values in necessity(found, unit).items()},
        {name: float(values[0]) for name, values in sufficiency(found, unit).items()},
    )


def test_the_design_holds_every_combination_once_per_layout() -> None:
    design = FactorialProbe(2)
    probe = design.load(seed=0)
    n = 8 * 4 * 8 * 7
    assert len(cells()) == len(set(cells())) == n
    assert len(probe.images) == len(set(probe.ids)) == 2 * n
    assert probe.captions is not None
    assert all(
        parse(text) == parse(" ".join(cell)) for text, cell in zip(probe.captions, cells(), strict=False)
    )


def test_pairs_differ_in_one_facet_and_in_nothing_else() -> None:
    design = FactorialProbe(1)
    index = {cell: place for place, cell in enumerate(cells())}
    a = index["red", "striped", "circle", "blue background"]
    b = index["red", "dotted", "circle", "blue background"]
    first, second = design.scene(0, a), design.scene(0, b)
    assert first != second
    assert vars(first) | {"texture": ""} == vars(second) | {"texture": ""}
    images = design.load(0).images
    differ = np.abs(images[a].astype(int) - images[b]).max(axis=2) > 0
    assert 0.02 < differ.mean() < 0.5  # within the object alone
    other_layout = design.scene(0, a + len(cells()))
    assert other_layout.x != first.x
    assert other_layout.attributes == first.attributes


@pytest.mark.parametrize(
    ("label", "truth", "needed", "kept"),
    [
        ("square", "square", {"square": 1}, {"color": 1, "texture": 1, "background": 1}),
        # without "solid" the unit stays where it is
        ("solid square", "square", {"square": 1, "solid": 0}, {"color": 1, "background": 1}),
        # one square in four is solid
        (
            "square", "solid square",
            {"square": 1 / 4}, {"color": 1 / 4, "texture": 1 / 4, "background": 1 / 4},
        ),
        # of seven other colors one is blue
        ("red", "red or blue", {"red": 6 / 7}, {"texture": 1, "shape": 1, "background": 1}),
        (
            "red or blue", "red",
            {"red": 1, "blue": 0}, {"texture": 1 / 2, "shape": 1 / 2, "background": 1 / 2},
        ),
        (
            "circle but not red", "circle but not red",
            {"circle": 1, "not red": 1}, {"texture": 1, "background": 1},
        ),
        ("circle", "star", {"circle": 0}, {"color": 0, "texture": 0, "background": 0}),
        (
            "red solid circle blue background", "red solid circle blue background",
            {"red": 1, "solid": 1, "circle": 1, "blue background": 1}, {"level": 1},
        ),
    ],
)  # fmt: skip
def test_labels_against_perfect_units(label: str, truth: str, needed, kept) -> None:
    found = judged(label, truth)
    assert found[0] == pytest.approx(needed, abs=0.01)
    assert found[1] == pytest.approx(kept, abs=0.02)


def test_what_no_image_shows_has_no_contrasts() -> None:
    assert contrasts(parse("a dog")) is None
    assert contrasts(parse("red on a red background")) is None


def test_every_contrast_of_a_named_attribute_adds_up_to_nothing() -> None:
    found = contrasts(parse("red striped circle or blue background"))
    assert found is not None
    assert all(weights.sum() == pytest.approx(0) for weights in found.necessary.values())
    assert all(weights.sum() == pytest.approx(1) for weights in found.sufficient.values())
    assert found.level.sum() == pytest.approx(1)


def test_responses_lie_between_the_median_and_the_highest_cell() -> None:
    units = np.concatenate([3 + 2 * ideal("star"), np.full((1, len(cells())), 5.0)])
    scaled = responses(np.tile(units, 2).T)
    assert scaled[0] == pytest.approx(ideal("star")[0])
    assert not scaled[1].any()


@pytest.mark.parametrize(
    ("label", "variants"),
    [
        (
            "red striped circle",
            [("red", "striped circle"), ("striped", "red circle"), ("circle", "red striped")],
        ),
        ("a star on a blue background", [("star", "blue background"), ("blue background", "star")]),
    ],
)
def test_each_word_is_left_out_once(label: str, variants: list[tuple[str, str]]) -> None:
    found = word_variants(label, WORDING, [], 3, np.random.default_rng(0))
    assert found == [Variant(label, word, text) for word, text in variants]


def test_a_single_word_is_exchanged_for_words_that_the_label_has_not() -> None:
    others = ["red", "star", "dotted", "pink"]
    found = word_variants("red or star", WORDING, others, 2, np.random.default_rng(0))
    assert {(variant.side, variant.word) for variant in found} == {("red", "red"), ("star", "star")}
    assert sorted(variant.text for variant in found) == ["dotted", "dotted", "pink", "pink"]


#: Units of the embedded target: what they detect, a label that is too narrow, and a wrong one.
LABELS = {
    0: ("red", "red star", "blue"),
    9: ("striped", "striped ring", "dotted"),
    12: ("circle", "solid circle", "star"),
    27: ("red circle", "red dotted circle", "green ring"),
    49: ("red or blue", "red ring", "star"),
}
SETTINGS = (
    "evaluator=[planted,counterfactual]", "evaluator.counterfactual.n_layouts=1",
    "evaluator.counterfactual.words=true", "probe.n_images=300", "images_per_concept=4",
)  # fmt: skip


@pytest.fixture
def judge(label_run: LabelRun) -> Callable[[int], RunResult]:
    """The run on the true labels (0), on those that are too narrow (1), and on wrong ones (2)."""
    return lambda kind: label_run({unit: labels[kind] for unit, labels in LABELS.items()}, *SETTINGS)


def values(result: RunResult, metric: str) -> np.ndarray:
    """Of the labeled neurons."""
    found = [n.values[f"counterfactual.{metric}"] for n in result.neurons if n.labels]
    assert len(found) == len(LABELS)
    return np.asarray(found)


def rows(result: RunResult, name: str):
    (found,) = [table.rows for table in result.tables if table.name == name]
    return found


@pytest.mark.slow
def test_units_move_with_what_true_labels_name_and_with_nothing_else(judge) -> None:
    true, narrow, wrong = map(judge, range(3))
    score = values(true, "score")
    assert min(score) > 0.85
    assert true.metrics["counterfactual.score"].oracle == pytest.approx(np.mean(score))
    assert narrow.metrics["counterfactual.score"].oracle == pytest.approx(np.mean(score))
    assert true.metrics["counterfactual.score"].chance < 0.3
    assert max(values(wrong, "score")) < 0.35
    assert np.all(values(narrow, "score") < score - 0.1)
    by_attribute = {(row["label"], row["changed"]): row["value"] for row in rows(narrow, "counterfactual")}
    assert by_attribute["solid circle", "circle"] > 0.85
    assert by_attribute["solid circle", "solid"] < 0.1
    assert {name for label, name in by_attribute if label == "red star"} == {
        "red", "star", "texture", "background",
    }  # fmt: skip


@pytest.mark.slow
def test_leaving_words_out_orders_labels_as_exact_pairs_do(judge) -> None:
    means = [values(judge(kind), "words").mean() for kind in range(3)]
    assert all(higher > lower + 0.1 for higher, lower in pairwise(means))
    assert rows(judge(1), "counterfactual_agreement")[0]["neurons"] == len(LABELS)


def test_networks_without_planted_units_get_no_exact_pairs(label_run: LabelRun) -> None:
    result = label_run(
        {0: "red", 9: "striped"}, "evaluator=[counterfactual]", "evaluator.counterfactual.truth=null",
        *SETTINGS[2:],
    )  # fmt: skip
    assert set(result.metrics) == {"counterfactual.words"}
    assert result.metrics["counterfactual.words"].headline
