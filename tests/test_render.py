from __future__ import annotations

from collections import Counter
from functools import partial

import numpy as np
import pytest

from dnr_bench.shapes.concepts import COLORS, FACETS, SHAPES, parse
from dnr_bench.shapes.probe import ShapesProbe
from dnr_bench.shapes.render import (
    color_values,
    concept_masks,
    object_mask,
    render,
    sample_scene,
)


def scene_of(text: str, seed: int = 0):
    return sample_scene(np.random.default_rng(seed), parse(text))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    assert np.array_equal(render(scene_of("red circle", 3)), render(scene_of("red circle", 3)))
    assert not np.array_equal(render(scene_of("red circle", 3)), render(scene_of("red circle", 4)))


@pytest.mark.parametrize(
    "text",
    [
        "red solid circle",
        "striped ring",
        "green background",
        "star or cross",
        "ring but not red but not dotted",
    ],
)
def test_scenes_show_the_concept_that_was_asked_for(text: str) -> None:
    scenes = [scene_of(text, seed) for seed in range(50)]
    assert all(parse(text).matches(scene.attributes) for scene in scenes)
    assert all(f"{scene.color} background" != scene.background for scene in scenes)


def test_what_a_concept_leaves_open_is_spread_evenly() -> None:
    scenes = [scene_of("striped", seed) for seed in range(1600)]
    for facet in ("color", "shape", "background"):
        counts = Counter(getattr(scene, facet) for scene in scenes)
        assert set(counts) == set(FACETS[facet])
        assert min(counts.values()) > 140  # of 200 expected


def test_both_alternatives_of_a_disjunction_are_drawn() -> None:
    shapes = Counter(scene_of("star or cross", seed).shape for seed in range(100))
    assert min(shapes["star"], shapes["cross"]) > 25


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("color", COLORS)
def test_pixels_have_the_colors_of_the_scene(shape: str, color: str) -> None:
    scene = scene_of(f"{color} solid {shape}", seed=SHAPES.index(shape))
    image, mask = render(scene).astype(float), object_mask(scene)
    wanted = np.asarray(color_values()[color])
    background = np.asarray(color_values()[scene.background.removesuffix(" background")])
    assert np.abs(np.median(image[mask], axis=0) - wanted).max() < 16
    assert np.abs(np.median(image[~mask], axis=0) - background).max() < 16


def test_masks_split_the_image_into_object_and_background() -> None:
    scene = scene_of("red striped circle on a blue background")
    masks = concept_masks(scene)
    assert set(masks) == {"red", "striped", "circle", "blue background"}
    assert np.array_equal(masks["red"], ~masks["blue background"])
    area = masks["circle"].sum() / (np.pi * (0.92 * scene.radius) ** 2)
    assert 0.6 < area < 1.05  # some of the circle may lie outside


def test_a_probing_set_is_named_by_its_content() -> None:
    probe, probe_scene = ShapesProbe(20).load(seed=0), partial(ShapesProbe(20).scene, 0)
    assert len(probe.images) == len(probe.ids) == len(set(probe.ids)) == 20
    assert probe.digest == ShapesProbe(20).load(seed=0).digest
    assert probe.digest != ShapesProbe(20).load(seed=1).digest
    assert not any(probe_scene(i).shape == "heart" for i in range(200))
    assert np.array_equal(probe.images[7], render(probe_scene(7)))
    with pytest.raises(IndexError):
        probe.images[20]
