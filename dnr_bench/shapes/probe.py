"""Images of the shapes world, rendered when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from dnr_bench.data.images import ConceptMasks, ProbeSet
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.ranges import check_range
from dnr_bench.shapes import render
from dnr_bench.shapes.concepts import FACET_OF, FACETS, ORDER, SHAPES
from dnr_bench.shapes.render import Scene, sample_scene
from dnr_bench.shapes.world import CAPTION_TEMPLATES, SEEN_SHAPES, caption, scene_rng
from dnr_bench.stages.lazy import Lazy


class ShapesProbe:
    """`n_images` random scenes; the run's seed chooses them.

    `split` probe explains neurons, evaluation is held out: they share no scene. `unseen_shape` lets the shape
    in that the target was not trained on. `classes` are the facets that make an image's class, in order:
    [texture, shape] gives "striped circle".
    """

    world: str | None = "shapes"

    def __init__(
        self,
        n_images: int,
        split: Literal["probe", "evaluation"] = "probe",
        unseen_shape: bool = False,
        classes: Sequence[str] = (),
    ) -> None:
        check_range(2, 1_000_000, n_images=n_images)
        if unknown := [facet for facet in classes if facet not in FACETS]:
            raise UsageError(f"classes={list(classes)}: {unknown} is unknown; known are {', '.join(FACETS)}")
        self.n_images, self.split, self.classes = n_images, split, tuple(classes)
        self.shapes = SHAPES if unseen_shape else SEEN_SHAPES

    def load(self, seed: int) -> ProbeSet:
        """The images with the objects' masks, captions in changing templates, and classes if asked for."""
        indices, of_shapes = range(self.n_images), "-all" if self.shapes == SHAPES else ""
        scenes = Lazy(self.n_images, lambda index: self.scene(seed, index))
        return ProbeSet(
            name=f"shapes-{self.split}{of_shapes}-{self.n_images}",
            ids=[f"{render.WORLD}-{self.split}{of_shapes}-{seed}-{index}" for index in indices],
            images=Lazy(self.n_images, lambda index: render.render(scenes[index])),
            masks=Lazy(self.n_images, lambda index: render.object_mask(scenes[index])),
            captions=[caption(scenes[i], template=i % len(CAPTION_TEMPLATES)) for i in indices],
            classes=[self._class(scenes[i]) for i in indices] if self.classes else None,
            concepts=_concepts(scenes),
        )

    def scene(self, seed: int, index: int) -> Scene:
        """The scene of one image."""
        return sample_scene(scene_rng(self.split, seed, index), shapes=self.shapes)

    def _class(self, scene: Scene) -> str:
        return " ".join(str(getattr(scene, facet)) for facet in self.classes)


def _concepts(scenes: Sequence[Scene]) -> ConceptMasks:
    """The pixels of each attribute."""
    names = list(ORDER)
    number = {name: index for index, name in enumerate(names)}

    def load(index: int) -> tuple[np.ndarray, np.ndarray]:
        masks = render.concept_masks(scenes[index])
        return np.asarray([number[name] for name in masks]), np.stack(list(masks.values()))

    return ConceptMasks(
        names=names,
        categories=[FACET_OF[name] for name in names],
        load=load,
        annotated=lambda _: frozenset(FACETS),
        version=render.WORLD,
    )
