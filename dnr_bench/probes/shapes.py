"""Probing images of the shapes world, rendered when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from dnr_bench.errors import UsageError
from dnr_bench.shapes import render
from dnr_bench.shapes.render import Scene, sample_scene
from dnr_bench.shapes.world import CAPTION_TEMPLATES, SEEN_SHAPES, caption, scene_rng
from dnr_bench.types import Image, ProbeSet

_SPLIT = "probe"


class ShapesProbe:
    """`n_images` random scenes of the shapes that the target was trained on; the seed chooses them."""

    def __init__(self, n_images: int) -> None:
        if n_images < 1:
            raise UsageError(f"n_images={n_images} must be at least 1")
        self.n_images = n_images

    def load(self, seed: int) -> ProbeSet:
        """The explaining split."""
        scenes = RenderedScenes(self.n_images, seed)
        return ProbeSet(
            name=f"shapes-{_SPLIT}-{self.n_images}",
            ids=[f"shapes-v{render.VERSION}-{_SPLIT}-{seed}-{i}" for i in range(self.n_images)],
            images=scenes,
            captions=[scenes.caption(i) for i in range(self.n_images)],
        )


class RenderedScenes(Sequence[Image]):
    """The images of a split's scenes; nothing but the seed is kept in memory."""

    def __init__(self, n_images: int, seed: int) -> None:
        self.n_images, self.seed = n_images, seed

    def __len__(self) -> int:
        return self.n_images

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> list[Image]: ...
    def __getitem__(self, index: int | slice) -> Image | list[Image]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return render.render(self.scene(index))

    def scene(self, index: int) -> Scene:
        """The scene of one image."""
        if not 0 <= index < self.n_images:
            raise IndexError(index)
        return sample_scene(scene_rng(_SPLIT, self.seed, index), shapes=SEEN_SHAPES)

    def caption(self, index: int) -> str:
        """The scene in words, in a template that changes from image to image."""
        return caption(self.scene(index), template=index % len(CAPTION_TEMPLATES))
