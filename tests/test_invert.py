"""INVERT: formulas by hand, AUROCs against scikit-learn, the search against all formulas, P against scipy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score

from dnr_bench.app.run import RunConfig, run
from dnr_bench.infra.errors import UsageError
from dnr_bench.statistics.formulas import (
    Formula,
    SearchSettings,
    n_searched,
    p_value,
    read_formula,
    search,
)

BuildRun = Callable[..., RunConfig]
WORDS = ["red", "circle", "blue", "square"]


def chunks_of(present: np.ndarray, size: int = 50) -> Callable[[], Iterator[np.ndarray]]:
    def chunks() -> Iterator[np.ndarray]:
        yield from (present[first : first + size] for first in range(0, len(present), size))

    return chunks


def test_formulas_are_true_where_they_should_be_and_say_so() -> None:
    present = np.array(list(product([False, True], repeat=4)))
    red, circle, blue, square = present.T
    formula = Formula((((0, False),),)).grown(True, (1, False)).grown(False, (2, True))
    assert formula.said(WORDS) == "red and circle or not blue"
    assert formula.holds(present).tolist() == ((red & circle) | ~blue).tolist()
    either = Formula((((0, False),),)).grown(False, (2, False)).grown(True, (3, True))
    assert either.said(WORDS) == "red but not square or blue but not square"
    assert either.holds(present).tolist() == ((red | blue) & ~square).tolist()


def test_a_formula_is_the_same_in_any_order() -> None:
    a, b = Formula((((0, False),),)), Formula((((1, True),),))
    assert a.grown(True, (1, True)) == b.grown(True, (0, False))
    assert a.grown(False, (1, True)) == b.grown(False, (0, False))
    assert a.grown(False, (0, False)) == a


def test_what_a_formula_says_is_read_back() -> None:
    assert read_formula("red and circle or not blue") == (
        (("red", False), ("circle", False)),
        (("blue", True),),
    )
    assert read_formula("red but not square and not circle") == (
        (("red", False), ("square", True), ("circle", True)),
    )
    assert read_formula("a dog in the snow") == ((("a dog in the snow", False),),)


@pytest.mark.parametrize("seed", range(4))
def test_the_search_finds_the_best_formulas_of_two_literals(seed: int) -> None:
    rng = np.random.default_rng(seed)
    present = rng.random((160, 6)) < 0.4
    values = np.stack([present[:, 0] & ~present[:, 3], present[:, 1] | present[:, 2]], axis=1)
    activations = (values + rng.normal(0, 0.4, values.shape)).astype(np.float32).round(1)  # with ties
    settings = SearchSettings(length=2, beam=12, least=0.02, most=0.6, min_gain=0.0)
    found = search(chunks_of(present), activations, settings)
    singles = [Formula((((c, negated),),)) for c in range(6) for negated in (False, True)]
    longer = [
        formula.grown(conjunction, (c, negated))
        for formula in singles
        for conjunction in (True, False)
        for c in range(6)
        for negated in (False, True)
        if c != formula.alternatives[0][0][0]
    ]
    for unit, best in enumerate(found):
        allowed = [f for f in (*singles, *longer) if 0.02 <= f.holds(present).mean() <= 0.6]
        wanted = max(roc_auc_score(f.holds(present), activations[:, unit]) for f in allowed)
        assert best[0].auc == pytest.approx(wanted)
        for one in best:
            holds = one.formula.holds(present)
            assert one.auc == pytest.approx(roc_auc_score(holds, activations[:, unit]))
            assert one.n == holds.sum()


def test_a_longer_formula_must_gain_what_is_asked_for() -> None:
    rng = np.random.default_rng(0)
    present = rng.random((300, 5)) < 0.4
    present[:, 1] = rng.random(300) < 0.03  # few images, but the neuron fires on them, too
    values = (present[:, [0]] | present[:, [1]]) + rng.normal(0, 0.1, (300, 1))
    greedy, modest = (
        search(chunks_of(present), values, SearchSettings(3, 3, 0.01, 0.6, gain))[0][0] for gain in (0, 0.05)
    )
    assert greedy.formula.said(["a", "b", "c", "d", "e"]).startswith("a")
    assert 0 < greedy.auc - modest.auc < 0.05
    assert greedy.length > 1
    assert modest.formula == Formula((((0, False),),))


def test_nothing_is_found_where_no_concept_is_in_enough_images() -> None:
    nowhere = np.zeros((40, 3), bool)
    (found,) = search(chunks_of(nowhere), np.arange(40.0)[:, None], SearchSettings(3, 3, 0.1, 0.5, 0.0))
    assert found == []


def test_p_is_scipys_times_the_formulas_that_were_looked_at() -> None:
    rng = np.random.default_rng(1)
    holds, values = rng.random(200) < 0.2, rng.normal(size=200)
    settings = SearchSettings(3, 3, 0.002, 0.5, 0.0)
    assert n_searched(10, settings) == 20 + 2 * 3 * 40  # 20 single ones, then 3 * 10 * 4 at each length
    raw = mannwhitneyu(values[holds], values[~holds], alternative="greater").pvalue
    assert p_value(values, holds, 3) == pytest.approx(min(3 * raw, 1))
    assert p_value(values, holds, 10**9) == 1


def test_planted_units_get_formulas_and_noise_gets_none(small_run: BuildRun) -> None:
    words = ("method=invert", "method.min_gain=0.01", "evaluator=[planted]", "probe.n_images=600")
    result = run(small_run(*words))
    labels = {neuron.name: neuron.labels for neuron in result.neurons}
    assert labels["concepts:0"] == ("red",)
    assert set(labels["concepts:50"][0].split(" or ")) == {"green", "purple"}
    assert result.metrics["planted.attribute_f1"].mean > 0.8
    strict = run(small_run(*words, "method.max_p=0"))
    random = next(neuron for neuron in strict.neurons if neuron.name == "concepts:62")
    assert random.unscored.startswith("no formula beats chance: P = ")
    assert random.candidates
    with pytest.raises(UsageError, match=r"least=0.6 must be below most=0.5"):
        small_run(*words, "method.least=0.6")


def test_concepts_that_would_make_formulas_unreadable_are_left_out(
    small_run: BuildRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "concepts.txt").write_text("red or blue\nred\nnot a ring\n")
    words = (
        "method=invert",
        f"presence.concepts={tmp_path / 'concepts.txt'}",
        "evaluator=[]",
        "neurons.units=[0]",
    )
    config = small_run(*words)
    session = config.session()
    (found,) = config.method.explain(config.neurons, session)
    assert {c.text for c in found.candidates} <= {"red", "not red"}
    assert "leaves out 2 concepts" in caplog.text


@pytest.mark.parametrize("presence", ["captions", "masks", "classes"])
def test_concepts_come_from_captions_masks_and_classes(presence: str, small_run: BuildRun) -> None:
    more = ["+probe.classes=[texture,shape]"] if presence == "classes" else []
    config = small_run("method=invert", f"presence={presence}", "evaluator=[planted]", *more)
    result = run(config)
    by_name = {neuron.name: neuron.labels for neuron in result.neurons}
    named = [label for labels in by_name.values() for label in labels]
    if presence == "classes":  # which name no color
        assert any("square" in label for label in by_name["concepts:13"])
        assert not any("red" in label.split() for label in named)
    else:
        assert "red" in by_name["concepts:0"][0]
