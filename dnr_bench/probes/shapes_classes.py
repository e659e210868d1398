"""Held-out images of the shapes world in classes that its target was not trained to tell apart."""

from __future__ import annotations

from dnr_bench.errors import UsageError
from dnr_bench.probes.lazy import Lazy
from dnr_bench.shapes import render
from dnr_bench.shapes.concepts import FACETS
from dnr_bench.shapes.render import Scene, sample_scene
from dnr_bench.shapes.world import scene_rng
from dnr_bench.types import ProbeSet

_SPLIT = "evaluation"


class ShapesClasses:
    """`n_images` scenes; the class of each is its value of `facet`: color, texture, shape or background.

    Shapes include the one that the target never saw.
    """

    def __init__(self, facet: str, n_images: int) -> None:
        if facet not in FACETS:
            raise UsageError(f"facet={facet!r} is unknown; known are {', '.join(FACETS)}")
        if n_images < 2:
            raise UsageError(f"n_images={n_images} must be at least 2")
        self.facet, self.n_images = facet, n_images

    def load(self, seed: int) -> ProbeSet:
        """Images that explain no neuron, with the class of each."""
        indices = range(self.n_images)
        return ProbeSet(
            name=f"shapes-{_SPLIT}-{self.n_images}",
            ids=[f"shapes-v{render.VERSION}-{_SPLIT}-{seed}-{index}" for index in indices],
            images=Lazy(self.n_images, lambda index: render.render(_scene(seed, index))),
            classes=[str(getattr(_scene(seed, index), self.facet)) for index in indices],
        )


def _scene(seed: int, index: int) -> Scene:
    return sample_scene(scene_rng(_SPLIT, seed, index))
