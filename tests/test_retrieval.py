"""Candidates scored on retrieved images instead of drawn ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from dnr_bench.app.composition import load_config
from dnr_bench.app.run import RunConfig, run
from dnr_bench.generators.retrieval import RetrievalGenerator
from dnr_bench.infra.errors import UsageError
from dnr_bench.protocols import Generator
from dnr_bench.shapes.probe import ShapesProbe
from tests.helpers.building import build

PROBE = ShapesProbe(400, split="evaluation").load(0)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(400):
        PILImage.fromarray(PROBE.images[index]).save(folder / f"{index:03}.png")
    return folder


def words(photos: Path) -> list[str]:
    return ["generator=retrieval", f"generator.images.path={photos}", "generator.size=64"]


def test_the_nearest_images_show_what_the_prompt_says(photos: Path) -> None:
    config = load_config(*words(photos), f"paths.store={photos.parent / 'store'}")
    generator = build(config.generator, Generator, "generator")
    assert isinstance(generator, RetrievalGenerator)
    assert PROBE.captions is not None
    numbers = list(range(8))
    images = generator.generate(["red circle"] * 8, [0] * 8, numbers)
    found = [next(i for i in range(400) if np.array_equal(PROBE.images[i], image)) for image in images]
    assert len(set(found)) == 8
    shown = [PROBE.captions[i] for i in found]
    assert np.mean(["red" in caption and "circle" in caption for caption in shown[:3]]) > 0.6
    assert np.array_equal(generator.generate(["stripes", "red circle"], [1, 2], [0, 5])[1], images[5])
    with pytest.raises(UsageError, match="401 images of a concept are asked for"):
        generator.generate(["red"], [0], [400])


@pytest.mark.slow
def test_a_run_without_a_text_to_image_model(photos: Path, small_run: Callable[..., RunConfig]) -> None:
    result = run(small_run(*words(photos), "evaluator=[planted,refinement]", "refine=iterative"))
    assert result.metrics["planted.attribute_f1"].mean > 0.5


@pytest.mark.slow
def test_new_images_are_others_than_those_that_chose_whatever_was_asked_before(
    photos: Path, small_run: Callable[..., RunConfig]
) -> None:
    def found(n: int, store: str) -> tuple[set[bytes], set[bytes]]:
        config = small_run(*words(photos), f"images_per_concept={n}", store=store)
        session = config.session()
        sets = [session.drawn("red circle", fresh=fresh).pixels for fresh in (False, True)]
        chosen, fresh = ({image.tobytes() for image in images} for images in sets)
        return chosen, fresh

    found(3, "shared")
    for n in (6, 3):
        chosen, fresh = found(n, "shared")
        assert len(chosen) == len(fresh) == n
        assert not chosen & fresh
        assert (chosen, fresh) == found(n, f"own{n}")


def test_what_labels_are_chosen_by_does_not_judge_them(
    photos: Path, small_run: Callable[..., RunConfig]
) -> None:
    held_out = ["held_out=folder", f"held_out.path={photos}", "evaluator=[held_out]"]
    with pytest.raises(UsageError, match="held-out images must be others"):
        run(small_run(*words(photos), *held_out))
    with pytest.raises(UsageError, match="has 400 images; images_per_concept=201 needs twice as many"):
        small_run(*words(photos), "images_per_concept=201").session()


def test_images_that_explain_are_not_retrieved(photos: Path, small_run: Callable[..., RunConfig]) -> None:
    config = small_run(*words(photos), "probe=folder", f"probe.path={photos}", "evaluator=[planted]")
    with pytest.raises(UsageError, match="300 of its images are images of the probing set"):
        run(config)
