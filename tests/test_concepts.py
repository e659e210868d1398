from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnr_bench.shapes.concepts import FACETS, Concept, parse
from dnr_bench.shapes.phrases import partial_concept, phrase
from dnr_bench.shapes.render import sample_scene
from dnr_bench.shapes.world import CAPTION_TEMPLATES, caption


@pytest.mark.parametrize(
    ("text", "alternatives"),
    [
        ("a red striped circle on a blue background", [["red", "striped", "circle", "blue background"]]),
        ("Stripes", [["striped"]]),
        ("red or blue circles", [["red", "circle"], ["blue", "circle"]]),
        ("red circle or blue star", [["red", "circle"], ["blue", "star"]]),
        ("red or star", [["red"], ["star"]]),
        ("red or blue solid crescent", [["red", "solid", "crescent"], ["blue", "solid", "crescent"]]),
        ("red circle or square", [["red", "circle"], ["square"]]),
        ("blue circle or red", [["blue", "circle"], ["red"]]),
        ("red striped or blue", [["red", "striped"], ["blue"]]),
        (
            "a cross on a red or green background",
            [["cross", "red background"], ["cross", "green background"]],
        ),
        ("red or blue or green background", [["red background"], ["blue background"], ["green background"]]),
        ("circle or red circle", [["circle"]]),
        ("a dog in the snow", []),
        ("circle but not red", [["circle", "not red"]]),
        ("non-red circle", [["not red", "not circle"]]),
        ("a star except on a blue background", [["star", "not blue background"]]),
        ("rings without stripes or a red circle", [["ring", "not striped"], ["red", "circle"]]),
        (
            "red or blue circle but not dotted",
            [["red", "circle", "not dotted"], ["blue", "circle", "not dotted"]],
        ),
        ("circle but not red or blue circle", [["circle", "not red"]]),
    ],
)
def test_phrases_mean_what_they_say(text: str, alternatives: list[list[str]]) -> None:
    assert parse(text) == Concept.of(*alternatives)


@given(st.integers(0, 2**32), st.integers(0, len(CAPTION_TEMPLATES) - 1))
def test_every_caption_names_the_four_attributes_of_its_scene(seed: int, template: int) -> None:
    scene = sample_scene(np.random.default_rng(seed))
    assert parse(caption(scene, template)) == Concept.of(scene.attributes)


@given(st.integers(0, 2**32))
def test_phrases_of_a_concept_parse_back_to_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    concept = partial_concept(sample_scene(rng), rng)
    assert parse(phrase(concept, rng)) == concept
    assert parse(str(concept)) == concept


def test_a_concept_matches_where_one_alternative_holds() -> None:
    concept = Concept.of(["red", "circle"], ["blue"])
    assert concept.matches(["red", "circle", "solid"])
    assert concept.matches(["blue", "star"])
    assert not concept.matches(["red", "star"])
    assert not Concept.of().matches(["red"])


def test_an_exception_holds_where_another_value_of_its_facet_does() -> None:
    concept = Concept.of(["circle", "not red"])
    assert concept.matches(["circle", "blue"])
    assert not concept.matches(["circle", "red"])
    assert not concept.matches(["circle"])  # it may be red
    assert Concept.of(["blue", "circle"]).implies(concept)
    assert concept.implies(Concept.of(["circle"]))
    assert not Concept.of(["circle"]).implies(concept)
    assert str(concept) == "circle but not red"


def test_unknown_attributes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown attributes.*'teal'.*known are"):
        Concept.of(["teal"])
    with pytest.raises(ValueError, match="unknown attributes"):
        Concept.of(["not teal"])


def test_facets_do_not_overlap() -> None:
    values = [value for facet in FACETS.values() for value in facet]
    assert len(values) == len(set(values))
