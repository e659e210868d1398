"""Probing images of the shapes world, rendered when they are asked for."""

from __future__ import annotations

from dnr_bench.errors import UsageError
from dnr_bench.probes.lazy import Lazy
from dnr_bench.shapes import render
from dnr_bench.shapes.render import Scene, sample_scene
from dnr_bench.shapes.world import CAPTION_TEMPLATES, SEEN_SHAPES, caption, scene_rng
from dnr_bench.types import ProbeSet

_SPLIT = "probe"


class ShapesProbe:
    """`n_images` random scenes of the shapes that the target was trained on; the seed chooses them."""

    def __init__(self, n_images: int) -> None:
        if n_images < 2:
            raise UsageError(f"n_images={n_images} must be at least 2")
        self.n_images = n_images

    def load(self, seed: int) -> ProbeSet:
        """The explaining split with the objects' masks, and captions in changing templates."""
        indices = range(self.n_images)
        return ProbeSet(
            name=f"shapes-{_SPLIT}-{self.n_images}",
            ids=[f"shapes-v{render.VERSION}-{_SPLIT}-{seed}-{index}" for index in indices],
            images=Lazy(self.n_images, lambda index: render.render(probe_scene(seed, index))),
            masks=Lazy(self.n_images, lambda index: render.object_mask(probe_scene(seed, index))),
            captions=[caption(probe_scene(seed, i), template=i % len(CAPTION_TEMPLATES)) for i in indices],
        )


def probe_scene(seed: int, index: int) -> Scene:
    """The scene of one probing image."""
    return sample_scene(scene_rng(_SPLIT, seed, index), shapes=SEEN_SHAPES)
