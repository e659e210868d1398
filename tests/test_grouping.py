"""Groups of units that say the same, and how far they are the true ones."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from dnr_bench.app.run import RunResult
from dnr_bench.data.scorecard import Plot
from dnr_bench.infra.errors import UsageError
from dnr_bench.outputs.plots import draw
from dnr_bench.shapes.planted import planted_units
from dnr_bench.statistics.grouping import bcubed_f1, groups_in_order, groups_of, sizes_of
from evaluators.concept_groups import ConceptGroups
from evaluators.superclasses import Superclasses
from tests.helpers.chat_server import chat_server

PROMPT = "conf/prompts/superclass.txt"

PLANTED = {unit.unit: unit.concept for unit in planted_units() if unit.concept}


def random_sets(seed: int, n: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    vectors = [rng.normal(size=(int(rng.integers(1, 4)), 3)) for _ in range(n)]
    return [v / np.linalg.norm(v, axis=1, keepdims=True) for v in vectors]


def partition(groups: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(groups == group).tolist()) for group in set(groups.tolist())}


@settings(deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(1, 15), phi=st.floats(-0.5, 0.9))
def test_groups_are_scipys_average_linkage_and_know_no_order(seed: int, n: int, phi: float) -> None:
    sets = random_sets(seed, n)
    groups = groups_of(sets, phi)
    order = np.random.default_rng(seed).permutation(n)
    shuffled = groups_of([sets[i] for i in order], phi)
    assert partition(groups) == {frozenset(int(order[i]) for i in g) for g in partition(shuffled)}
    if n > 1:
        similar = np.asarray([[np.mean([[x @ y for x in a] for y in b]) for a in sets] for b in sets])
        distances = squareform(1 - similar, checks=False)
        expected = fcluster(linkage(distances, "average"), 1 - phi, "distance")
        assert partition(groups) == partition(expected)


def test_similarity_phi_itself_makes_a_group() -> None:
    a, b = np.array([[1.0, 0.0]]), np.array([[0.6, 0.8]])
    assert sizes_of(groups_of([a, b], 0.6)).tolist() == [2, 2]
    assert sizes_of(groups_of([a, b], 0.61)).tolist() == [1, 1]
    for seed in range(20):  # equal labels are one group, whatever float32 makes of their cosine
        vector = np.random.default_rng(seed).normal(size=(1, 64)).astype(np.float32)
        vector /= np.linalg.norm(vector)
        assert sizes_of(groups_of([vector, vector.copy()], 1.0)).tolist() == [2, 2]


def test_as_printed_a_unit_joins_the_first_group_to_all_of_which_it_is_similar() -> None:
    angles = np.radians([0, 20, 40, 60])
    sets = [np.asarray([[np.cos(a), np.sin(a)]]) for a in angles]
    phi = float(np.cos(np.radians(25)))  # neighbors are similar, others are not
    assert groups_in_order(sets, phi).tolist() == [0, 0, 1, 1]
    order = [1, 2, 0, 3]
    assert groups_in_order([sets[i] for i in order], phi).tolist() == [0, 0, 1, 2]
    assert groups_in_order([], phi).tolist() == []


def test_bcubed_f1_by_hand() -> None:
    found, true = np.array([0, 0, 0, 1]), np.array([5, 5, 7, 7])
    # unit 0: group of 3 against 2, two in common; unit 2: 3 against 2, itself; unit 3: 1 against 2, itself
    assert bcubed_f1(found, true) == pytest.approx([4 / 5, 4 / 5, 2 / 5, 2 / 3])
    assert bcubed_f1(true, true).tolist() == [1.0] * 4


def test_true_labels_give_the_true_groups_and_a_table_of_them(label_run: Callable[..., RunResult]) -> None:
    superclasses = "evaluator.concept_groups.superclasses=[red thing,striped thing,blue background]"
    few = ("evaluator=[planted,concept_groups]", superclasses)
    result = label_run(PLANTED, *few)
    for name in ("bcubed_f1", "superclass"):
        metric = result.metrics[f"concept_groups.concepts.{name}"]
        assert metric.mean == metric.oracle == 1.0
        assert metric.chance < 0.8
    (table,) = result.tables
    assert sorted(int(unit) for row in table.rows for unit in row["units"].split()) == sorted(PLANTED)
    assert [row["size"] for row in table.rows] == sorted((r["size"] for r in table.rows), reverse=True)
    by_label = {row["label"]: row["superclass"] for row in table.rows}
    assert by_label["blue background"] == "blue background"
    shared = sum(row["size"] for row in table.rows if row["size"] > 1) / len(PLANTED)
    assert result.metrics["concept_groups.concepts.grouped"].mean == pytest.approx(shared)
    units, concepts = list(PLANTED), list(PLANTED.values())
    shifted = label_run(dict(zip(units, concepts[9:] + concepts[:9], strict=True)), *few)
    assert shifted.metrics["concept_groups.concepts.bcubed_f1"].normalized < 0.3


def test_what_is_no_cosine_or_no_choice_is_refused() -> None:
    with pytest.raises(UsageError, match=r"phi=8\.0 must lie in -1\.\.1"):
        ConceptGroups("labels", 8.0, False, [], None, PROMPT)
    with pytest.raises(UsageError, match="must name at least two"):
        ConceptGroups("labels", 0.8, False, ["water"], None, PROMPT)


def test_a_language_model_names_superclasses(tmp_path: Path, label_run: Callable[..., RunResult]) -> None:
    with chat_server() as server:
        words = [
            "evaluator=[concept_groups,cost]",
            "summarizer=openai",
            f"summarizer.chat.base_url={server.url}",
        ]
        words += ["evaluator.concept_groups.superclasses=[color,form]"]
        words += ["evaluator.concept_groups.llm=${summarizer}", "neurons.units=[0,1,13]"]
        result = label_run({0: "color red", 1: "form of a star", 13: "a heart"}, *words)
        asked = [request["messages"][0]["content"] for request in server.requests]
    table = next(table for table in result.tables if table.name == "concept_groups")
    assert "cost.tokens_per_neuron" not in result.metrics  # of describing, which asked nothing
    found = {row["label"]: row["superclass"] for row in table.rows}
    assert set(found) == {"color red", "form of a star", "a heart"}
    assert found["color red"] == "color"  # the first that the answer names
    assert set(found.values()) <= {"color", "form"}
    assert any("color, form" in text for text in asked)
    assert result.usage["evaluator.concept_groups"].asked == len(asked)


def test_label_and_superclass_come_in_one_answer_as_in_the_paper(
    tmp_path: Path, label_run: Callable[..., RunResult]
) -> None:
    with chat_server() as server:
        words = ["evaluator=[concept_groups]", "summarizer=openai", f"summarizer.chat.base_url={server.url}"]
        words += ["evaluator.concept_groups.superclasses=[water,forest]"]
        words += ["evaluator.concept_groups.prompt=conf/prompts/label_and_superclass.txt"]
        words += ["evaluator.concept_groups.llm=${summarizer}", "neurons.units=[0,1,13]"]
        result = label_run({0: "blue water", 1: "blue water", 13: "a forest"}, *words)
        asked = [request["messages"][0]["content"] for request in server.requests]
    (table,) = result.tables
    found = {row["label"]: (row["superclass"], row["size"]) for row in table.rows}
    assert found == {"BLUE WATER": ("water", 2), "A FOREST": ("forest", 1)}
    assert all("one of: water, forest" in text for text in asked)
    mine = tmp_path / "own.txt"
    mine.write_text("Name the landscape of {descriptions}")  # as the paper's prompt, which lists no classes
    assert Superclasses(["water", "forest"], None, str(mine)).in_one_answer
    mine.write_text("Name {label}")
    with pytest.raises(UsageError, match=r"must hold the fields {classes}, {label}, or {descriptions}, or"):
        Superclasses(["water", "forest"], None, str(mine))


def test_an_answer_that_names_no_superclass_leaves_it_to_clip_and_the_label(
    tmp_path: Path, label_run: Callable[..., RunResult]
) -> None:
    words = ["evaluator=[concept_groups]", "evaluator.concept_groups.superclasses=[red,striped star]"]
    with_clip = label_run({0: "red ring", 9: "striped star"}, *words)
    with chat_server() as server:  # which says "None of them." where no name stands in the label
        asked = [f"summarizer.chat.base_url={server.url}", "evaluator.concept_groups.llm=${summarizer}"]
        words[1] = "evaluator.concept_groups.superclasses=[red,striped star]"
        (tmp_path / "mine.txt").write_text("Is it {label}, or {classes}?")
        asked += ["summarizer=openai", f"evaluator.concept_groups.prompt={tmp_path / 'mine.txt'}"]
        with_answers = label_run({0: "red ring", 9: "striped star"}, *words, *asked)
        assert server.requests
    found = [
        {row["label"]: row["superclass"] for row in run.tables[0].rows} for run in (with_clip, with_answers)
    ]
    assert found[0] == found[1] == {"red ring": "red", "striped star": "striped star"}


def test_figure_4_has_a_bar_for_each_group_in_the_color_of_its_superclass() -> None:
    rows = [
        {"label": f"label {n} of $\\foo$", "size": 100 - n, "superclass": ["_water", "$\\for$est"][n % 2]}
        for n in range(70)
    ]
    figure = draw(rows, Plot("label", "size", ("superclass",), "Units per concept", kind="bars"))
    figure.savefig(BytesIO())  # which fails for a formula that is none
    (axes,) = figure.axes
    heights = sorted((bar.get_height() for bar in axes.patches), reverse=True)
    assert heights == list(range(100, 40, -1))
    assert "(60 of 70)" in axes.get_title()
    colors = {bar.get_facecolor() for bar in axes.patches}
    assert len(colors) == 2
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [r"\$\for\$est", "\u2009_water"]
