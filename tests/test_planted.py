"""The units that the embedded targets were trained to have, and the truth that lies beside their weights."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from dnr_bench.app.neurons import NeuronSelection, in_proportion
from dnr_bench.data.neuron import Layer, Neuron
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.planted import read_planted
from dnr_bench.infra.shipped import CHECKPOINTS
from dnr_bench.shapes.concepts import parse
from dnr_bench.shapes.planted import FACTORS, PlantedUnit, planted_units, planted_units_512
from dnr_bench.shapes.render import sample_scene
from dnr_bench.shapes.train.target import responses
from dnr_bench.shapes.world import SEEN_SHAPES

UNITS = planted_units_512()
KINDS = {
    "color": 8, "texture": 4, "shape": 7, "background": 8, "pair": 140, "triple": 80, "rare": 32, "or": 56,
    "polysemantic": 48, "exception": 40, "graded": 24, "weak": 32, "nameless": 17, "dead": 8, "random": 8,
}  # fmt: skip


def scenes(n: int):
    return [sample_scene(np.random.default_rng([1, i]), shapes=SEEN_SHAPES) for i in range(n)]


def test_there_are_512_units_of_these_kinds() -> None:
    assert [unit.unit for unit in UNITS] == list(range(512))
    assert Counter(unit.kind for unit in UNITS) == KINDS


@pytest.mark.parametrize(("checkpoint", "units"), [("target", planted_units()), ("target512", UNITS)])
def test_the_truth_beside_the_weights_is_that_of_the_units(checkpoint: str, units) -> None:
    kept = json.loads((CHECKPOINTS / checkpoint / "planted.json").read_text())
    assert kept == [json.loads(json.dumps(unit.record())) for unit in units]
    read = read_planted(f"embedded:{checkpoint}")
    assert [(p.neuron.unit, p.kind, p.concept, p.weights) for p in read] == [
        (unit.unit, unit.kind, unit.concept, unit.weights) for unit in units
    ]


def test_concepts_of_a_kind_differ_and_are_read_back_as_they_were_meant() -> None:
    for kind in KINDS:
        truths = [unit.truth for unit in UNITS if unit.kind == kind and unit.concept]
        assert len(set(truths)) == len(truths)
        assert kind == "graded" or all(parse(str(truth)) == truth for truth in truths)
    of_kind = {kind: [u.truth for u in UNITS if u.kind == kind] for kind in KINDS}
    assert all(len(truth.alternatives) == 2 for truth in of_kind["or"] + of_kind["polysemantic"])
    assert all(any(a.startswith("not ") for a in truth.attributes) for truth in of_kind["exception"])
    assert all(len(truth.attributes) == 4 for truth in of_kind["rare"])


def test_rare_concepts_are_shown_by_at_most_one_image_in_500() -> None:
    shown = scenes(4000)
    shares = [
        np.mean([unit.truth.matches(scene.attributes) for scene in shown])
        for unit in UNITS
        if unit.kind == "rare"
    ]
    assert np.mean(shares) < 1 / 1000
    assert max(shares) <= 1 / 400


def test_graded_units_respond_half_as_much_to_their_second_concept() -> None:
    unit = PlantedUnit(0, "graded", "red or circle", weights=(1.0, 0.5))
    scene = replace(scenes(1)[0], color="blue", shape="star")
    assert unit.response(scene) == 0
    assert unit.response(replace(scene, shape="circle")) == 0.5
    assert unit.response(replace(scene, color="red")) == 1
    assert unit.response(replace(scene, color="red", shape="circle")) == 1


@pytest.mark.parametrize("auroc", [0.76, 0.85, 0.94])
def test_weak_units_are_as_selective_as_planted(auroc: float) -> None:
    unit = PlantedUnit(0, "weak", "striped", factor="left to right", auroc=auroc)
    shown = scenes(4000)
    striped = [scene.texture == "striped" for scene in shown]
    assert roc_auc_score(striped, [unit.response(scene) for scene in shown]) == pytest.approx(auroc, abs=0.02)


@pytest.mark.parametrize("name", FACTORS)
def test_what_has_no_name_lies_in_0_to_1_and_goes_with_no_attribute(name: str) -> None:
    shown = scenes(2000)
    values = np.asarray([FACTORS[name](scene) for scene in shown])
    assert 0 <= values.min() < 0.2
    assert 0.75 < values.max() <= 1
    for attribute in ("red", "striped", "circle", "blue background"):
        holds = np.asarray([attribute in scene.attributes for scene in shown])
        assert abs(values[holds].mean() - values[~holds].mean()) < 0.06


def test_the_table_of_responses_is_that_of_each_unit() -> None:
    shown = scenes(30)
    table = responses(UNITS, shown)
    expected = [[unit.response(scene) for unit in UNITS] for scene in shown]
    assert np.allclose(table, expected)


def test_a_file_that_lists_no_units_is_refused(tmp_path: Path) -> None:
    assert read_planted(None) == read_planted(str(tmp_path)) == []
    (tmp_path / "planted.json").write_text('[{"layer": "concepts"}]')
    with pytest.raises(UsageError, match="does not list units with layer, unit, kind and concept: KeyError"):
        read_planted(str(tmp_path))
    entry = {"layer": "a", "unit": 0, "kind": "graded", "concept": "red or blue", "weights": [1.0]}
    (tmp_path / "planted.json").write_text(json.dumps([entry]))
    with pytest.raises(UsageError, match="has not 1 alternatives"):
        read_planted(str(tmp_path))


def test_a_sample_holds_each_kind_in_proportion_and_a_larger_one_the_smaller() -> None:
    layer = [Layer("concepts", 512, spatial=True)]
    samples = {
        n: NeuronSelection(["concepts"], "all", n, strata="embedded:target512").choose(layer, seed=3)
        for n in (64, 128)
    }
    kinds = {planted.neuron: planted.kind for planted in read_planted("embedded:target512")}
    counts = Counter(kinds[neuron] for neuron in samples[128])
    assert all(abs(counts[kind] - n / 4) <= 1 for kind, n in KINDS.items())
    assert set(samples[64]) < set(samples[128])
    assert Neuron("concepts", 0).layer == samples[64][0].layer


def test_one_stratum_is_drawn_at_random() -> None:
    order = in_proportion([""] * 50, np.random.default_rng(4))
    assert order == np.random.default_rng(4).permutation(50).tolist()
