"""Rendered training and test images of the shapes world, held in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from tqdm import trange

from dnr_bench.shapes.concepts import SHAPES
from dnr_bench.shapes.render import SIZE, Scene, object_mask, render, sample_scene
from dnr_bench.shapes.world import scene_rng


@dataclass(frozen=True)
class Scenes:
    """Scenes and their images, in one order."""

    scenes: tuple[Scene, ...]
    images: UInt8[np.ndarray, "n 64 64 3"]

    def batch(self, indices: Sequence[int]) -> tuple[list[Scene], Float[Tensor, "batch 3 64 64"]]:
        """The scenes at these indices and their images as values in 0..1."""
        rows = torch.from_numpy(self.images[np.asarray(indices)])
        return [self.scenes[i] for i in indices], rows.permute(0, 3, 1, 2).float() / 255


def draw_scenes(
    split: str, n: int, shapes: tuple[str, ...] = SHAPES, zoomed_share: float = 0.0, seed: int = 0
) -> Scenes:
    """`n` scenes of a split; `zoomed_share` of them cut to the object, as attention crops are."""
    images = np.empty((n, SIZE, SIZE, 3), np.uint8)
    scenes = []
    for index in trange(n, desc=f"rendering {split}", leave=False, disable=None):
        rng = scene_rng(split, seed, index)
        scene = sample_scene(rng, shapes=shapes)
        image = render(scene)
        images[index] = _zoomed(image, scene, rng) if rng.random() < zoomed_share else image
        scenes.append(scene)
    return Scenes(tuple(scenes), images)


def _zoomed(image: np.ndarray, scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """A rectangle around the object with a random margin, resized to the full size."""
    rows, columns = np.nonzero(object_mask(scene))
    margin = rng.uniform(0.0, 0.6, 4) * scene.radius
    top, left = max(rows.min() - margin[0], 0), max(columns.min() - margin[1], 0)
    bottom, right = min(rows.max() + 1 + margin[2], SIZE), min(columns.max() + 1 + margin[3], SIZE)
    crop = image[int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))]
    zoomed: np.ndarray = cv2.resize(crop, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
    return zoomed
