from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnr_bench.app.run import RunConfig, run
from dnr_bench.data.evidence import NOTHING_MORE, Evidence, Origin
from dnr_bench.data.explanation import Description, Explanation, RefinementRecord, ScoredCandidate
from dnr_bench.data.neuron import Neuron
from dnr_bench.data.scorecard import Scorecard
from dnr_bench.encoders.bert_score import BertScore
from dnr_bench.encoders.clip import local_clip
from dnr_bench.encoders.sentences import SentenceEncoder
from dnr_bench.shapes.concepts import Concept, parse
from dnr_bench.shapes.planted import planted_units
from dnr_bench.shapes.target import hooked_network
from dnr_bench.shapes.world import CLASSES
from evaluators.fc_layer import FcLayer
from evaluators.planted import POOL_SIZE, Planted, concept_pool, exact, too_narrow, too_wide, wrong
from evaluators.refinement import RefinementGain
from evaluators.user_concepts import UserConcepts
from tests.helpers.sessions import LabelSession, Scores

PLANTED = [unit for unit in planted_units() if unit.kind not in ("dead", "random")]
NOTHING = [unit for unit in planted_units() if unit.kind in ("dead", "random")]


def labeled(layer: str, unit: int, *texts: str) -> Explanation:
    candidates = [ScoredCandidate(text, "captions", -float(i)) for i, text in enumerate(texts)]
    unscored = None if texts else "dead"
    return Explanation(Neuron(layer, unit), tuple(candidates), texts[:1], unscored=unscored)


def truth_scores(pools: Mapping[Neuron, Sequence[str]]) -> dict[Neuron, np.ndarray]:
    """Scores that know the truth: of each pool, wherever it stands."""
    truths = {Neuron("concepts", unit.unit): unit.truth for unit in PLANTED}
    return {
        neuron: np.array([float(parse(text) == truths[neuron]) for text in pool])
        for neuron, pool in pools.items()
    }


BuildRun = Callable[..., RunConfig]


def first_scores(pools: Mapping[Neuron, Sequence[str]]) -> dict[Neuron, np.ndarray]:
    """Scores that look at the order alone: the first of each pool wins."""
    return {neuron: -np.arange(len(pool), dtype=float) for neuron, pool in pools.items()}


class Unused:
    """A scorer that nobody asks: the session gives scores."""

    needs = NOTHING_MORE

    def score(self, evidence: Evidence) -> np.ndarray:
        raise AssertionError


def planted(truth: str = "embedded:target", reciprocal_rank: bool = True) -> Planted:
    return Planted(truth, reciprocal_rank, scorer=Unused())


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory):
    target = hooked_network("embedded:target", pool="mean", device="cpu", batch_size=64)
    encoder = local_clip("embedded:clip", device="cpu", dtype="float32", batch_size=64)
    store = tmp_path_factory.mktemp("evaluators")

    def evaluate(
        evaluator, explanations: Sequence[Explanation], pool_scores: Scores = truth_scores
    ) -> dict[str, Scorecard]:
        session = LabelSession(target, encoder, store, scores=pool_scores, fresh_scores=first_scores)
        return {card.name: card for card in evaluator.evaluate(Description(list(explanations)), session)}

    return evaluate


def mean(card: Scorecard) -> float:
    return float(np.nanmean(card.values))


def test_true_labels_reach_the_oracle_and_the_controls_stay_below(judge) -> None:
    explanations = [labeled("concepts", u.unit, u.concept) for u in PLANTED]
    cards = judge(planted(), explanations)
    for name in ("exact", "attribute_f1", "truth_in_candidates", "chosen_given_present", "reciprocal_rank"):
        card = cards[f"planted.{name}"]
        assert mean(card) == card.oracle == 1.0, name
    assert cards["planted.exact"].chance == 0.0
    assert 0 < cards["planted.attribute_f1"].chance < 0.2
    assert (
        cards["planted.attribute_f1"].chance < cards["planted.attribute_f1"].controls["best_constant"] < 0.3
    )
    by_kind = [card for name, card in cards.items() if name.startswith("planted.exact.")]
    assert sum(len(card.items) for card in by_kind) == len(PLANTED) == 60


def test_too_specific_too_general_and_wrong_labels_are_told_apart(judge) -> None:
    unit = next(u.unit for u in PLANTED if u.concept == "red circle")
    for label, precision, recall, kind in (
        ("circle", 1.0, 0.5, "too_wide"),
        ("red striped circle on a blue background", 0.5, 1.0, "too_narrow"),
        ("red striped", 0.5, 0.5, "wrong"),
        ("blue star", 0.0, 0.0, "wrong"),
        ("a dog", 0.0, 0.0, "wrong"),
    ):
        cards = judge(planted(), [labeled("concepts", unit, label)])
        assert mean(cards["planted.attribute_precision"]) == precision, label
        assert mean(cards["planted.attribute_recall"]) == recall, label
        assert mean(cards["planted.exact"]) == 0
        kinds = {name: mean(cards[f"planted.{name}"]) for name in ("too_narrow", "too_wide", "wrong")}
        assert kinds == {"too_narrow": 0, "too_wide": 0, "wrong": 0} | {kind: 1}, label


def test_one_side_of_a_disjunction_is_too_narrow(judge) -> None:
    unit = next(u.unit for u in PLANTED if u.concept == "red or blue")
    for label, kind in (("red", "too_narrow"), ("red or blue or green", "too_wide")):
        cards = judge(planted(), [labeled("concepts", unit, label)])
        assert mean(cards[f"planted.{kind}"]) == 1, label
        assert cards["planted.wrong"].oracle == 0
        assert not cards[f"planted.{kind}"].higher_is_better


@pytest.mark.parametrize(
    ("truth", "weights", "label", "expected"),
    [
        # (precision, recall, exact, too_narrow, too_wide)
        ("circle but not red", (), "circle but not red", (1, 1, 1, 0, 0)),
        ("circle but not red", (), "circle", (1, 1 / 2, 0, 0, 1)),
        ("circle but not red", (), "blue circle", (1 / 2, 1 / 2, 0, 1, 0)),
        ("circle but not red", (), "red circle", (1 / 2, 1 / 2, 0, 0, 0)),
        ("red or blue", (1.0, 0.5), "red or blue", (1, 1, 1, 0, 0)),
        ("red or blue", (1.0, 0.5), "red", (1, 1 / 1.5, 0, 1, 0)),
        ("red or blue", (1.0, 0.5), "blue", (1, 0.5 / 1.5, 0, 1, 0)),
        ("red or blue", (1.0, 0.5), "red or green", (1 / 2, 1 / 1.5, 0, 0, 0)),
        # one attribute of two, of half the weight: (.5 * 1) / (1 * 1 + .5 * 2)
        ("star or red circle", (1.0, 0.5), "circle", (1, 0.25, 0, 0, 0)),
    ],
)
def test_exceptions_and_grades_count(
    truth: str, weights, label: str, expected, judge, tmp_path: Path
) -> None:
    entry = {"layer": "concepts", "unit": 0, "kind": "any", "concept": truth, "weights": weights}
    (tmp_path / "planted.json").write_text(json.dumps([entry]))
    cards = judge(planted(str(tmp_path), False), [labeled("concepts", 0, label)])
    names = ("attribute_precision", "attribute_recall", "exact", "too_narrow", "too_wide")
    assert [mean(cards[f"planted.{name}"]) for name in names] == pytest.approx(expected)


def test_units_without_a_name_are_to_be_abstained_from_and_counted_by_kind(judge, tmp_path: Path) -> None:
    kinds = ("color", "nameless", "dead")
    units = [
        {"layer": "concepts", "unit": i, "kind": kind, "concept": "red" if kind == "color" else ""}
        for i, kind in enumerate(kinds)
    ]
    (tmp_path / "planted.json").write_text(json.dumps(units))
    explanations = [
        labeled("concepts", 0, "red"),
        labeled("concepts", 1, "star"),
        Explanation(Neuron("concepts", 2), (), unscored="dead"),
    ]
    cards = judge(planted(str(tmp_path), False), explanations)
    assert cards["planted.abstained_correctly"].values.tolist() == [0, 1]
    assert cards["planted.abstained_correctly.nameless"].values.tolist() == [0]
    assert cards["planted.abstained_correctly.dead"].part_of == "planted.abstained_correctly"


ATTRIBUTES = st.sets(st.sampled_from(["red", "blue", "striped", "circle", "star"]), min_size=1, max_size=3)


@given(st.lists(ATTRIBUTES, max_size=3), st.lists(ATTRIBUTES, min_size=1, max_size=3))
def test_a_label_is_exactly_one_of_exact_too_narrow_too_wide_and_wrong(
    named: list[set[str]], true: list[set[str]]
) -> None:
    label, truth = Concept.of(*named), Concept.of(*true)
    assert sum(judged(label, truth) for judged in (exact, too_narrow, too_wide, wrong)) == 1


def test_the_truth_among_the_candidates_but_not_chosen(judge) -> None:
    unit = next(u.unit for u in PLANTED if u.concept == "red circle")
    other = next(u.unit for u in PLANTED if u.concept == "star")
    cards = judge(
        planted(),
        [labeled("concepts", unit, "circle", "red circle"), labeled("concepts", other, "red", "cross")],
    )
    assert mean(cards["planted.truth_in_candidates"]) == 0.5
    chosen = cards["planted.chosen_given_present"]
    assert chosen.values[0] == 0
    assert np.isnan(chosen.values[1])
    assert chosen.chance == 0.5


def test_an_unlabeled_unit_is_unscored_and_not_a_zero(judge) -> None:
    units = [u.unit for u in PLANTED[:3]]
    cards = judge(
        planted(),
        [
            labeled("concepts", units[0], "red"),
            labeled("concepts", units[1]),
            labeled("concepts", units[2], "blue"),
        ],
    )
    for metric in ("exact", "attribute_f1", "truth_in_candidates"):
        values = cards[f"planted.{metric}"].values
        assert values[0] == 1, metric
        assert np.isnan(values[1]), metric
        assert values[2] == 0, metric


def test_abstaining_is_right_on_units_that_detect_nothing(judge) -> None:
    dead, random = NOTHING[0].unit, NOTHING[2].unit
    cards = judge(planted(), [labeled("concepts", dead), labeled("concepts", random, "red")])
    assert set(cards) == {"planted.abstained_correctly"}
    assert cards["planted.abstained_correctly"].values.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("unit", PLANTED, ids=lambda unit: unit.concept)
def test_pools_hold_the_truth_once_and_its_easy_rivals(unit) -> None:
    pool = concept_pool(unit.truth, np.random.default_rng(0))
    assert len(pool) == len(set(pool)) == POOL_SIZE
    assert pool[0] == unit.truth
    assert all(parse(str(concept)) == concept for concept in pool)
    if len(next(iter(unit.truth.alternatives))) > 1:
        assert any(other.attributes < unit.truth.attributes for other in pool), "a wider concept"
    assert any(other.attributes > unit.truth.attributes for other in pool), "a narrower concept"


def test_class_names_as_labels_reach_the_oracle_of_the_fc_layer(judge, fc_layer: FcLayer) -> None:
    cards = judge(fc_layer, [labeled("fc", i, name) for i, name in enumerate(CLASSES)])
    constant = judge(fc_layer, [labeled("fc", i, "striped circle") for i in range(len(CLASSES))])
    assert list(cards) == ["fc_layer.clip_cos", "fc_layer.sentence_cos", "fc_layer.bertscore_f1"]
    judges = [card.judge.split()[0] for card in cards.values()]
    assert judges == ["embedded:clip", "embedded:sentences", "embedded:bert"]
    assert cards.items()
    for name, card in cards.items():
        assert mean(card) == pytest.approx(1.0, abs=1e-5)
        assert card.chance < 0.9
        assert card.controls["random_word"] < card.controls["best_constant"] < 0.95
        assert mean(constant[name]) < 0.95


def test_a_unit_without_a_label_is_unscored_for_every_judge(judge, fc_layer: FcLayer) -> None:
    cards = judge(fc_layer, [labeled("fc", 0, "red"), labeled("fc", 1), labeled("fc", 2, "blue star")])
    assert cards.values()
    for card in cards.values():
        assert np.isnan(card.values).tolist() == [False, True, False]
    assert judge(fc_layer, [labeled("fc", 0)]) == {}
    (alone,) = judge(fc_layer, [labeled("fc", 0, CLASSES[0])])["fc_layer.bertscore_f1"].values
    assert alone == pytest.approx(1.0, abs=1e-5)


@pytest.fixture(scope="module")
def fc_layer() -> FcLayer:
    return FcLayer(
        SentenceEncoder("embedded:sentences", device="cpu", batch_size=64),
        BertScore("embedded:bert", layer=2, device="cpu", batch_size=64),
    )


def test_evaluators_say_nothing_of_neurons_they_know_nothing_about(judge, fc_layer: FcLayer) -> None:
    assert judge(planted(), [labeled("layer3", 0, "red")]) == {}
    assert judge(fc_layer, [labeled("layer3", 0, "red")]) == {}


def refined(unit: int, *answers: str) -> Explanation:
    """A neuron whose answer went this way."""
    explanation = labeled("concepts", unit, answers[-1])
    return replace(
        explanation, refinement=RefinementRecord(tuple(0.5 for _ in answers[1:]), "last iteration", answers)
    )


def test_refined_answers_are_held_against_the_unrefined_ones(judge) -> None:
    red, ring = (next(u.unit for u in PLANTED if u.concept == name) for name in ("red", "striped ring"))
    explanations = [
        refined(red, "red circle", "red circle", "red"),
        refined(ring, "striped ring", "striped ring"),
    ]
    cards = judge(planted(), explanations)
    assert cards["planted.exact_gain"].values.tolist() == [1.0, 0.0]
    assert cards["planted.attribute_f1_gain"].values == pytest.approx([1 / 3, 0.0])
    cards = judge(RefinementGain(Unused()), explanations)
    assert cards["refinement.changed"].values.tolist() == [1.0, 0.0]
    assert cards["refinement.iterations"].values.tolist() == [2.0, 1.0]
    # `first_scores` prefers the first of a pool, which is the unrefined answer
    assert cards["refinement.fresh_wins"].values.tolist() == [0.0]
    assert cards["refinement.fresh_gain"].values.tolist() == [-1.0, 0.0]
    assert judge(RefinementGain(Unused()), [labeled("concepts", red, "red")]) == {}
    assert "planted.exact_gain" not in judge(planted(), [labeled("concepts", red, "red")])


def test_the_users_concepts_are_held_against_machine_made_ones(judge) -> None:
    def competed(unit: int, *candidates: tuple[str, Origin, float]) -> Explanation:
        scored = tuple(ScoredCandidate(text, origin, score) for text, origin, score in candidates)
        return Explanation(Neuron("concepts", unit), scored, (scored[0].text,))

    cards = judge(
        UserConcepts(),
        [
            competed(0, ("red", "user", 3.0), ("red ring", "captions", 1.0)),
            competed(1, ("blue", "captions", 2.0), ("blue ring", "user", 1.5), ("ring", "user", 1.0)),
            competed(2, ("star", "captions", 2.0)),
        ],
    )
    assert cards["user_concepts.won"].values.tolist() == [1.0, 0.0]
    assert cards["user_concepts.won"].chance == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert cards["user_concepts.margin"].values.tolist() == [2.0, -0.5]
    assert judge(UserConcepts(), [competed(2, ("star", "captions", 2.0))]) == {}


def test_the_order_of_a_pool_says_nothing(judge) -> None:
    explanations = [labeled("concepts", unit.unit, unit.concept) for unit in PLANTED]
    card = judge(planted(), explanations, first_scores)["planted.reciprocal_rank"]
    assert card.values.mean() == pytest.approx(card.chance, abs=0.1)


def test_of_several_labels_the_first_counts_but_for_alternatives(judge) -> None:
    red, either = (next(u for u in PLANTED if u.concept == name) for name in ("red", "star or cross"))
    both = [labeled("concepts", red.unit, "red", "blue"), labeled("concepts", either.unit, "cross", "star")]
    several = [replace(e, labels=tuple(c.text for c in e.candidates)) for e in both]
    one, two = (judge(planted(), explanations) for explanations in (both, several))
    assert one["planted.exact"].values.tolist() == [1.0, 0.0]
    assert two["planted.exact"].values.tolist() == [1.0, 1.0]
    assert "planted.further_wrong" not in one
    assert two["planted.further_wrong"].values.tolist() == [1.0, 0.0]
    assert not two["planted.further_wrong"].higher_is_better


def test_copied_captions_are_held_against_the_labels(small_run: BuildRun) -> None:
    words = ["captioner=dataset", "evaluator=[planted,fc_layer]", "neurons.layers=[concepts]"]
    result = run(small_run(*words, "neurons.units=[0,12,20,27]"))
    exact = result.metrics["planted.exact"]
    assert exact.mean > exact.controls["copy"] == 0  # a whole caption names four attributes
    recall = result.metrics["planted.attribute_recall"]
    assert recall.controls["copy"] == 1 or recall.controls["copy"] > exact.controls["copy"]
    assert "planted.exact" not in result.beaten_by("copy")
    assert "copy" not in result.metrics["planted.truth_in_candidates"].controls


def test_without_a_caption_there_is_nothing_to_copy() -> None:
    found = Explanation(Neuron("concepts", 0), (), captions=("", "a red ring")).copied
    assert found.unscored == "its highest exemplar has no caption"
    assert not found.labels
