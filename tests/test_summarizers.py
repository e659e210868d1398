from __future__ import annotations

import pytest

from dnr_bench.app.configuration import load_config
from dnr_bench.infra.errors import UsageError
from dnr_bench.protocols import Summarizer
from dnr_bench.shapes.concepts import Concept, parse
from dnr_bench.summarizers.consensus import ConsensusSummarizer
from tests.helpers.building import build


@pytest.fixture(scope="module")
def consensus() -> ConsensusSummarizer:
    built = build(load_config("summarizer=consensus").summarizer, Summarizer, "summarizer")
    assert isinstance(built, ConsensusSummarizer)
    return built


def test_terms_are_words_without_stop_words_and_heads_with_theirs(consensus: ConsensusSummarizer) -> None:
    assert consensus.terms("On a blue background, a circle that is red and striped.") == [
        "blue background",
        "circle",
        "red",
        "striped",
    ]
    assert consensus.terms("a background of the image") == []
    assert consensus.terms("") == []
    assert consensus.summarize([["", "", "a red ring"], ["", ""], []], n=2, seed=0)[1:] == [[], []]


def test_what_all_captions_share_comes_first(consensus: ConsensusSummarizer) -> None:
    colors = ["blue", "green", "white", "pink", "yellow"]
    captions = [f"a red striped circle on a {color} background" for color in colors]
    (concepts,) = consensus.summarize([captions], n=5, seed=0)
    assert concepts[0] == "red striped circle"
    assert set(concepts[1:4]) == {"circle", "red", "striped"}
    assert len(concepts) == len(set(concepts)) == 5


def test_a_lower_threshold_forgives_a_wrong_caption(consensus: ConsensusSummarizer) -> None:
    captions = ["a ring on a blue background"] * 4 + ["a ring on a red background"] * 4
    captions += ["a circle on a pink background", "a square on a white background"]
    (concepts,) = consensus.summarize([captions], n=5, seed=0)
    assert concepts[0] == "ring"


def test_two_terms_that_never_meet_become_a_disjunction(consensus: ConsensusSummarizer) -> None:
    shapes = ["circle", "square", "star", "ring", "cross"]
    captions = [f"a red {shape}" for shape in shapes] + [f"a blue {shape}" for shape in shapes[::-1]]
    (concepts,) = consensus.summarize([captions], n=5, seed=0)
    assert concepts[0] == "blue or red"


def test_each_side_of_a_disjunction_keeps_what_it_shares(consensus: ConsensusSummarizer) -> None:
    colors = ["green", "pink", "white"]
    captions = [f"a red circle on a {color} background" for color in colors]
    captions += [f"a blue star on a {color} background" for color in colors]
    (concepts,) = consensus.summarize([captions], n=5, seed=0)
    assert "red circle or blue star" in concepts or "blue star or red circle" in concepts


def test_a_disjunction_means_the_groups_it_was_made_of(consensus: ConsensusSummarizer) -> None:
    """Where one group shares more by chance, naming it all would be read as shared by both."""
    captions = [f"a red solid crescent on a {color} background" for color in ("pink", "blue", "white")]
    captions += [f"a blue {thing}" for thing in ("dotted star", "striped ring", "checkered cross")]
    (concepts,) = consensus.summarize([captions], n=9, seed=0)
    either = [parse(concept) for concept in concepts if " or " in concept]
    assert either
    assert either
    for concept in either:
        assert {len(alternative) for alternative in concept.alternatives} == {1}


def test_a_disjunction_starts_with_the_side_that_ends_in_a_noun(consensus: ConsensusSummarizer) -> None:
    captions = [f"a red {texture} circle" for texture in ("solid", "dotted", "checkered")]
    captions += [f"a blue striped {shape}" for shape in ("star", "ring", "cross")]
    (concepts,) = consensus.summarize([captions], n=9, seed=0)
    assert Concept.of(["red", "circle"], ["blue", "striped"]) in [parse(concept) for concept in concepts]


def test_a_backgrounds_color_is_no_color_of_the_object(consensus: ConsensusSummarizer) -> None:
    captions = ["a red ring on a blue background", "a blue star on a red background"]
    (concepts,) = consensus.summarize([captions], n=9, seed=0)
    assert "blue background" in concepts
    assert concepts.count("blue") <= 1


def test_no_captions_give_no_candidates_and_n_is_a_limit(consensus: ConsensusSummarizer) -> None:
    assert consensus.summarize([[], ["a an the"]], n=5, seed=0) == [[], []]
    assert len(consensus.summarize([["red green blue"]], n=2, seed=0)[0]) == 2


def test_the_order_of_captions_does_not_matter(consensus: ConsensusSummarizer) -> None:
    captions = ["a red ring", "a ring with dots", "a red dotted ring", "a blue ring"]
    forward, backward = consensus.summarize([captions, captions[::-1]], n=5, seed=0)
    assert forward == backward


@pytest.mark.parametrize("thresholds", [[], [0.0], [1.5]])
def test_thresholds_out_of_range_are_refused(thresholds: list[float]) -> None:
    with pytest.raises(UsageError, match="thresholds="):
        ConsensusSummarizer(thresholds, [], [])
