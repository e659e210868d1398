from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from dnr_bench.app.composition import load_config
from dnr_bench.data.captions import Captions
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.store import Store
from dnr_bench.protocols import Summarizer, TextEncoder
from dnr_bench.shapes.concepts import Concept, parse
from dnr_bench.stages.caption_contrast import CaptionContrast
from dnr_bench.statistics.contrast import central, correlations, excess
from dnr_bench.statistics.wording import Wording
from dnr_bench.summarizers.captions import CaptionsAsCandidates
from dnr_bench.summarizers.consensus import ConsensusSummarizer
from tests.helpers.building import build
from tests.helpers.captions import said

#: Captions of photographs that share no word, beside what they are told apart from.
PLACES = [
    "two surfers wait behind the breakers",
    "an old tram climbs a narrow street",
    "children feed pigeons in the square",
    "fog lies over the vineyard",
    "a market stall with oranges",
    "the harbor crane lifts a container",
    "cyclists pass a white church",
    "snow covers the parked cars",
]


class Vectors:
    """A sentence encoder with a table: what it does not list is at right angles to all the rest."""

    name = fingerprint = "table"

    def __init__(self, alike: Sequence[Sequence[str]]) -> None:
        self.groups = [set(group) for group in alike]
        self.seen: dict[str, int] = {}

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        found = np.zeros((len(texts), 200), np.float32)
        for row, text in enumerate(texts):
            for place, group in enumerate(self.groups):
                if group & set(text.split()):
                    found[row, place] = 1
            if not found[row].any():
                found[row, len(self.groups) + self.seen.setdefault(text, len(self.seen)) % 150] = 1
        return found / np.linalg.norm(found, axis=1, keepdims=True)


class NoWords(Vectors):
    """An encoder of another language."""

    def __init__(self) -> None:
        super().__init__([])

    def unknown(self, texts: Sequence[str]) -> list[bool]:
        return [True] * len(texts)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        raise AssertionError("it knows none of the words")


def by(encoder: TextEncoder, store: Path = Path("unused")) -> ConsensusSummarizer:
    settings = load_config("summarizer=consensus").contrast
    contrast = CaptionContrast(encoder, 500, list(settings.stopwords), list(settings.heads), Store(store))
    return ConsensusSummarizer(contrast, True, [0.9, 0.7])


def excited(
    texts: Sequence[str], activations: Sequence[float], others: Sequence[str], values: Sequence[float]
) -> Captions:
    return Captions(tuple(texts), np.asarray(activations, float), others, np.asarray(values, float))


@pytest.fixture(scope="module")
def consensus() -> ConsensusSummarizer:
    built = build(load_config("summarizer=consensus").summarizer, Summarizer, "summarizer")
    assert isinstance(built, ConsensusSummarizer)
    return built


@pytest.fixture(scope="module")
def wording() -> Wording:
    return Wording(["a", "the", "on", "of", "with", "and", "is", "that"], ["background"])


def test_words_leave_out_stop_words_and_join_heads_with_theirs(wording: Wording) -> None:
    assert wording.words("On a blue background, a circle that is red and striped.") == [
        "blue background",
        "circle",
        "red",
        "striped",
    ]
    assert wording.words("a background of the image") == ["image"]
    assert wording.words("") == []


def test_forms_of_a_word_are_one_term(wording: Wording) -> None:
    assert wording.terms("the striped rings") == wording.terms("Stripe, ring!")
    assert wording.alternatives("red rings or a star") == [("red", "ring"), ("star",)]


def test_phrases_begin_and_end_with_words_that_say_something(wording: Wording) -> None:
    found = wording.phrases("A cup of hot coffee, on the table")
    assert {"cup", "hot coffee", "cup of hot coffee", "coffee", "table"} <= set(found)
    assert "coffee table" not in found  # a comma is between them
    assert not [phrase for phrase in found if phrase.split()[0] in wording.stopwords]
    assert "blue" not in wording.phrases("a ring on a blue background")


def test_only_a_short_caption_is_a_phrase_as_a_whole(wording: Wording) -> None:
    assert "man feeds a dog and two cats and a bird" in wording.phrases(
        "the man feeds a dog and two cats and a bird"
    )
    assert max(len(phrase.split()) for phrase in wording.phrases(" ".join("abcdefghijklmnop"))) <= 6


def test_what_stands_out_counts_alone_and_what_is_even_counts_alike() -> None:
    others = np.zeros(4)
    assert excess(np.array([10.0, 1, 1, 1]), others)[:4] == pytest.approx([8, 0, 0, 0])
    assert excess(np.array([1.0, 1, 1, 1]), np.r_[others, 1.0])[[0, -1]] == pytest.approx([0.4, 0.4])
    assert not excess(np.ones(3), np.ones(3)).any()


def test_correlations_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    rows, values = rng.random((5, 30)), rng.random(30)
    assert correlations(rows, values) == pytest.approx([np.corrcoef(row, values)[0, 1] for row in rows])
    assert correlations(np.ones((1, 30)), values) == [0]
    assert correlations(rows, np.ones(30)).tolist() == [0] * 5


def test_the_central_text_is_near_to_the_likely_ones() -> None:
    cosines = np.array([[1, 0.1, 0.1], [0.1, 1, 0.9], [0.1, 0.9, 1]])
    assert central(np.array([1.0, 0.9, 0.9]), cosines, temperature=4.0) in (1, 2)
    assert central(np.array([1.0, 0.9, 0.9]), cosines, temperature=0.0) == 0
    assert central(np.array([1.0, 0.1, 0.1]), cosines, temperature=0.1) == 0


def test_what_all_captions_share_comes_first(consensus: ConsensusSummarizer) -> None:
    colors = ["blue", "green", "white", "pink", "yellow"]
    captions = [f"a red striped circle on a {color} background" for color in colors]
    (concepts,) = consensus.summarize(said(captions), n=5, seed=0)
    assert concepts[0] == "red striped circle"
    assert len(concepts) == len(set(concepts)) == 5


def test_no_word_wins_by_the_alphabet(consensus: ConsensusSummarizer) -> None:
    """Captions that share no word: the highest exemplar's say most, and nothing else is above half height."""
    others = [*PLACES, "10 american bears", "an american picture"]
    captions = excited(PLACES, [9.0, 2, 1.8, 1.7, 1.6, 1.5, 1.4, 1.3], others, [1.0] * 10)
    (concepts,) = by(NoWords()).summarize([captions], n=5, seed=0)
    assert len(concepts) == 5
    assert set(concepts[0].split()) <= set(PLACES[0].split())
    assert all(any(concept in caption for caption in PLACES) for concept in concepts)


def test_what_other_captions_say_as_well_is_no_label() -> None:
    captions = ["an american flag", "a white american truck", "american flag on a pole", "flag in the wind"]
    others = [f"an american {thing}" for thing in ("bear", "house", "road", "lake", "hat", "shop")] * 5
    found = by(NoWords()).summarize([excited(captions, [1.0] * 4, others, [0.0] * 30)], n=5, seed=0)
    assert found[0][0] == "flag"
    assert "american" not in found[0]


def test_high_activations_count_most() -> None:
    captions = ["a brown bear", "a tall giraffe", "giraffe in the zoo", "the giraffe eats", "giraffe legs"]
    others = [*PLACES, *PLACES]
    steep = excited(captions, [20.0, 3, 3, 3, 3], others, [0.0] * 16)
    even = excited(captions, [3.1, 3, 3, 3, 3], others, [0.0] * 16)
    found = by(NoWords()).summarize([steep, even], n=3, seed=0)
    assert set(found[0][0].split()) <= {"brown", "bear"}
    assert found[1][0] == "giraffe"


def test_other_wordings_of_a_thing_count_together(tmp_path: Path) -> None:
    captions = ["a puppy", "old hounds", "one dog", "a red kite", "a red car"]
    others = [*PLACES, "red roofs", "a red door", "the red line"]
    evidence = excited(captions, [1.0] * 5, others, [0.0] * len(others))
    alone = by(NoWords()).summarize([evidence], n=1, seed=0)
    together = by(Vectors([["puppy", "hound", "hounds", "dog"]]), tmp_path).summarize([evidence], n=1, seed=0)
    assert "dog" not in alone[0][0]
    assert together[0][0].split()[-1] in {"puppy", "hounds", "dog"}


def test_a_lower_threshold_forgives_a_wrong_caption(consensus: ConsensusSummarizer) -> None:
    captions = ["a ring on a blue background"] * 4 + ["a ring on a red background"] * 4
    captions += ["a circle on a pink background", "a square on a white background"]
    others = [
        f"a {shape} on a {color} background" for shape in ("star", "circle") for color in ("blue", "red")
    ]
    (concepts,) = consensus.summarize([excited(captions, [1.0] * 10, others, [0.0] * 4)], n=5, seed=0)
    assert concepts[0] == "ring"


def test_two_terms_that_never_meet_become_a_disjunction(consensus: ConsensusSummarizer) -> None:
    shapes = ["circle", "square", "star", "ring", "cross"]
    captions = [f"a red {shape}" for shape in shapes] + [f"a blue {shape}" for shape in shapes[::-1]]
    others = [f"a {color} {shape}" for color in ("pink", "green") for shape in shapes]
    (concepts,) = consensus.summarize([excited(captions, [1.0] * 10, others, [0.0] * 10)], n=5, seed=0)
    assert parse(concepts[0]) == Concept.of(["red"], ["blue"])


def test_each_side_of_a_disjunction_keeps_what_it_shares(consensus: ConsensusSummarizer) -> None:
    colors = ["green", "pink", "white"]
    captions = [f"a red circle on a {color} background" for color in colors]
    captions += [f"a blue star on a {color} background" for color in colors]
    others = [f"a {color} star" for color in colors] + ["a blue ring", "a red cross", "a pink circle"]
    (concepts,) = consensus.summarize([excited(captions, [1.0] * 6, others, [0.0] * 6)], n=5, seed=0)
    assert Concept.of(["red", "circle"], ["blue", "star"]) in [parse(concept) for concept in concepts]


def test_a_backgrounds_color_is_no_color_of_the_object(consensus: ConsensusSummarizer) -> None:
    captions = ["a red ring on a blue background", "a blue star on a red background"]
    (concepts,) = consensus.summarize(said(captions), n=20, seed=0)
    assert not {"blue ring", "red star"} & set(concepts)
    assert "blue background" in concepts


def test_no_captions_give_no_candidates_and_n_is_a_limit(consensus: ConsensusSummarizer) -> None:
    assert consensus.summarize(said([], ["a an the"], ["", ""]), n=5, seed=0) == [[], [], []]
    assert len(consensus.summarize(said(["red green blue"]), n=2, seed=0)[0]) == 2
    assert consensus.summarize([], n=2, seed=0) == []


def test_neurons_do_not_depend_on_each_other(consensus: ConsensusSummarizer) -> None:
    others = ["a blue star", "a pink ring", "the green cross"]
    first = excited(["a red ring", "a red star"], [2.0, 1.0], others, [0.0] * 3)
    second = excited(["a dotted heart", "a dotted cross"], [2.0, 1.0], others, [1.0, 0.0, 0.0])
    together = consensus.summarize([first, second], n=5, seed=0)
    assert [*consensus.summarize([first], 5, 0), *consensus.summarize([second], 5, 0)] == together


def test_support_is_nothing_known_without_captions_and_bounded_with_them() -> None:
    contrast = by(NoWords()).contrast
    captions = excited(["a red ring"], [1.0], ["a blue ring", "red"], [0.0, 0.2])
    spoken, silent = contrast.supports([captions, Captions(())], [["red ring", "blue", "x"], ["red"]])
    assert np.isnan(silent).all()
    assert spoken[0] == pytest.approx(1, abs=0.2)
    assert spoken[0] > spoken[2] == 0 > spoken[1] >= -1


@pytest.mark.parametrize("thresholds", [[], [0.0], [1.5]])
def test_thresholds_out_of_range_are_refused(thresholds: list[float]) -> None:
    with pytest.raises(UsageError, match="thresholds="):
        ConsensusSummarizer(by(NoWords()).contrast, True, thresholds)


def test_lists_of_words_must_be_lists() -> None:
    with pytest.raises(UsageError, match="must be lists of words"):
        CaptionContrast(NoWords(), 10, "the", [], Store("unused"))


def test_captions_as_candidates_are_all_of_them_the_most_frequent_first() -> None:
    found = CaptionsAsCandidates().summarize(said(["cat", "a dog", "A  Dog", ""], []), n=1, seed=0)
    assert found == [["a dog", "cat"], []]
    ten = [f"caption {i}" for i in range(10)]
    assert CaptionsAsCandidates().summarize(said(ten), n=5, seed=0) == [ten]
