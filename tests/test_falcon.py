"""FALCON: look-alikes, words that fit them are dropped, groups, and the planted units."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dnr_bench.app.run import RunConfig, run
from dnr_bench.data.exemplars import Activations
from dnr_bench.data.neuron import Layer
from dnr_bench.infra.errors import UsageError
from dnr_bench.methods.falcon import layer_moments, look_alikes, shared_highest
from dnr_bench.shapes.concepts import parse
from dnr_bench.shapes.probe import ShapesProbe

BuildRun = Callable[..., RunConfig]
WORDS = ("method=falcon", "evaluator=[planted]", "probe.n_images=600")


@pytest.mark.slow
def test_labels_name_what_sets_exemplars_apart(small_run: BuildRun) -> None:
    result = run(small_run(*WORDS))
    by_name = {neuron.name: neuron for neuron in result.neurons}
    assert by_name["concepts:0"].labels[0].split()[0] == "red"
    assert by_name["concepts:60"].unscored.startswith("dead")
    assert all(c.score > 0 for neuron in result.neurons for c in neuron.candidates)
    metric = result.metrics["planted.attribute_f1"]
    assert metric.mean > metric.chance + 0.3


@pytest.mark.slow
def test_look_alikes_are_near_and_activate_the_neuron_little(small_run: BuildRun) -> None:
    config = small_run(*WORDS)
    session = config.session()
    values = session.activations("concepts").values[:, 0]
    images = np.argsort(-values)[:10].tolist()
    vectors = np.asarray(session.probe_vectors())
    found = look_alikes(vectors[images], values, images, vectors, 0.5)
    places = [int(np.argmax(vectors @ vector)) for vector in found]
    assert len(set(places)) == len(places) == 10
    scenes = ShapesProbe(600)
    assert not any(parse("red").matches(scenes.scene(0, place).attributes) for place in places)
    near = (vectors[images] @ found.T).max(axis=1).mean()
    assert near > (vectors[images] @ vectors[values <= np.median(values)].T).mean() + 0.2


def test_units_that_fire_together_are_explained_together(small_run: BuildRun) -> None:
    config = small_run(*WORDS, "method.group_size=3", "neurons.units=[0,27]")
    _, red_circle = run(config).neurons  # which fires on some of what the other fires on
    assert "concepts:0" in red_circle.group
    assert len(red_circle.group) <= 2
    assert red_circle.answer.endswith(f"(together with {', '.join(red_circle.group)})")
    alone = run(small_run(*WORDS, "neurons.units=[0,27]")).neurons
    assert all(neuron.group == () for neuron in alone)


def test_the_images_of_a_group_are_those_that_its_weakest_unit_fires_on() -> None:
    values = np.array([[9.0, 0.0], [5.0, 5.0], [0.0, 9.0], [4.0, 4.0], [0.0, 0.0]])
    found = Activations(Layer("l", 2, True), values, "")
    assert shared_highest(found, [0, 1], 2) == [1, 3]
    assert shared_highest(found, [0], 2) == [0, 1]


def test_moments_of_a_layer_are_those_of_the_whole() -> None:
    values = np.random.default_rng(0).normal(3, 2, (500, 4))
    values[:, 3] = 1.0
    mean, deviation = layer_moments(values)
    assert mean == pytest.approx(values.mean(axis=0))
    assert deviation[:3] == pytest.approx(values.std(axis=0)[:3])
    assert deviation[3] == 1.0


def test_captions_of_a_file_take_the_place_of_the_sets_own(tmp_path: Path, small_run: BuildRun) -> None:
    (tmp_path / "captions.txt").write_text("a circle\na striped cross\n")
    result = run(small_run(*WORDS, f"method.captions={tmp_path / 'captions.txt'}"))
    words = {word for neuron in result.neurons for label in neuron.labels for word in label.split()}
    assert words <= {"circle", "striped", "cross"}


def test_settings_that_make_no_sense_are_refused(small_run: BuildRun) -> None:
    for word in ("method.low=1", "method.group_size=0", "method.joined=2", "method.template=word"):
        with pytest.raises(UsageError, match=word.partition("=")[0]):
            small_run(*WORDS, word)
