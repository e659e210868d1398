from __future__ import annotations

from pathlib import Path

import pytest

from dnr_bench.app.composition import load_config
from dnr_bench.app.configuration import build_run
from dnr_bench.data.neuron import Layer, Neuron
from dnr_bench.infra.errors import UsageError
from dnr_bench.proposals.user_concepts import UserConcepts

NEURONS = [Neuron("concepts", 0), Neuron("concepts", 17), Neuron("fc", 3)]
LAYERS = [Layer("concepts", 64, True), Layer("fc", 28, False)]


def user_concepts(given, neurons, layers) -> dict[Neuron, tuple[str, ...]]:
    return UserConcepts(given).concepts(neurons, layers)


def test_a_list_is_for_all_neurons() -> None:
    found = user_concepts(["striped  ring", "red things"], NEURONS, LAYERS)
    assert found == dict.fromkeys(NEURONS, ("striped ring", "red things"))
    assert user_concepts([], NEURONS, LAYERS) == {}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (
            "mine.csv",
            "\ufefflayer,unit,concept\n\nconcepts, 17 ,striped ring\n , ,\n"
            "fc,3,a star\nconcepts,17,ring\nfc,9,dog\n",
        ),
        ("mine.yaml", "concepts:17: [striped ring, ring]\nfc:3: [a star]\nfc:9: [dog]\n"),
    ],
)
def test_a_file_has_concepts_for_each_neuron(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    found = user_concepts(str(tmp_path / name), NEURONS, LAYERS)
    assert found == {NEURONS[1]: ("striped ring", "ring"), NEURONS[2]: ("a star",)}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("mine.csv", "neuron,concept\n1,red\n", r"lacks the columns \['layer', 'unit'\]"),
        ("mine.csv", "layer,unit,concept\nfc,1,red\nfc,x,red\n", r"line 3: 'fc:x' is no neuron"),
        ("mine.csv", "layer,unit,concept\nfc,1,\n", r"line 2: '' is no concept"),
        ("mine.csv", "layer,unit,concept\nfc,1,red, ring\n", r"line 2: more values than columns"),
        ("mine.csv", "layer,unit,concept\nfc,1," + "a" * 200_000 + "\n", r"field larger than field limit"),
        ("mine.csv", "layer,unit,concept\nlayer9,1,red\n", r"line 2: .* no neuron layer9:1; .* fc:0-27"),
        ("mine.yaml", "fc:28: [red]\n", r"fc:28: the target has no neuron fc:28"),
        ("mine.yaml", "[red]\n", r"must hold lists of concepts"),
        ("mine.yaml", "seventeen: [red]\n", r"'seventeen' is no neuron; write layer:unit"),
        ("mine.yaml", "fc:1: [3]\n", r"3 is no concept"),
        ("mine.txt", "red\n", r"neither a list .* nor a \.csv or \.yaml file"),
    ],
)
def test_wrong_files_say_where_and_what(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match=message):
        user_concepts(str(tmp_path / name), NEURONS, LAYERS)


def test_a_missing_file_and_an_empty_concept_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.csv' cannot be read"):
        user_concepts(str(tmp_path / "gone.csv"), NEURONS, LAYERS)
    with pytest.raises(UsageError, match=r"user_concepts\[1\]: ' ' is no concept"):
        user_concepts(["red", " "], NEURONS, LAYERS)


@pytest.mark.parametrize("given", ["5", "null", "red"])
def test_other_values_are_neither_list_nor_file(given: str) -> None:
    with pytest.raises(UsageError, match=r"user_concepts=.* is "):
        build_run(load_config(f"user_concepts={given}"))


@pytest.mark.parametrize("wrong", [3, None, ["red"]])
def test_a_list_holds_words(wrong: object) -> None:
    with pytest.raises(UsageError, match=r"user_concepts\[1\]: .* is no concept"):
        user_concepts(["red", wrong], NEURONS, LAYERS)


def test_a_concept_over_two_lines_is_one_concept(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text('layer,unit,concept\nconcepts,17,"red\nstar"\n')
    found = user_concepts(str(tmp_path / "mine.csv"), NEURONS, LAYERS)
    assert found == {NEURONS[1]: ("red star",)}
