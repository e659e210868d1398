"""Rendered training and test images of the shapes world, held in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from tqdm import trange

from dnr_bench.shapes.concepts import FACETS, SHAPES, Concept
from dnr_bench.shapes.render import SIZE, Scene, object_mask, render, sample_scene
from dnr_bench.shapes.world import scene_rng


@dataclass(frozen=True)
class Scenes:
    """Scenes, their images and the objects' masks (255 inside, at half size), in one order."""

    scenes: tuple[Scene, ...]
    images: UInt8[np.ndarray, "n 64 64 3"]
    masks: UInt8[np.ndarray, "n 32 32"]

    def batch(self, indices: Sequence[int]) -> tuple[list[Scene], Float[Tensor, "batch 3 64 64"]]:
        """The scenes at these indices and their images as values in 0..1."""
        rows = torch.from_numpy(self.images[np.asarray(indices)])
        return [self.scenes[i] for i in indices], rows.permute(0, 3, 1, 2).float() / 255

    def truth(self) -> dict[str, Int64[Tensor, " n"]]:
        """For each facet the index of every scene's value in `FACETS`."""
        return {
            facet: torch.tensor([values.index(getattr(scene, facet)) for scene in self.scenes])
            for facet, values in FACETS.items()
        }

    def covered(self, indices: Sequence[int]) -> Float[Tensor, "batch 32 32"]:
        """How much of each 2x2 block of pixels belongs to the object, 0..1."""
        return torch.from_numpy(self.masks[np.asarray(indices)]).float() / 255


def turned(pictures: Tensor, turn: int) -> Tensor:
    """Pictures [..., height, width] in one of the 8 positions of a square; no attribute changes by it."""
    rotated = torch.rot90(pictures, turn % 4, dims=(-2, -1))
    return rotated.flip(-1) if turn >= 4 else rotated


def draw_scenes(
    split: str,
    n: int,
    shapes: tuple[str, ...] = SHAPES,
    zoomed_share: float = 0.0,
    seed: int = 0,
    asked_for: Sequence[Concept] = (),
) -> Scenes:
    """`n` scenes of a split; `zoomed_share` of them cut to the object, as attention crops are.

    Where concepts are asked for, every other scene shows one of them, in turn.
    """
    images = np.empty((n, SIZE, SIZE, 3), np.uint8)
    masks = np.empty((n, SIZE // 2, SIZE // 2), np.uint8)
    scenes = []
    for index in trange(n, desc=f"rendering {split}", leave=False, disable=None):
        rng = scene_rng(split, seed, index)
        wanted = asked_for[index // 2 % len(asked_for)] if asked_for and index % 2 else None
        scene = sample_scene(rng, wanted, shapes)
        image, mask = render(scene), object_mask(scene).astype(np.uint8) * 255
        if rng.random() < zoomed_share:
            top, left, bottom, right = _surroundings(scene, rng)
            image, mask = (_resized(picture[top:bottom, left:right]) for picture in (image, mask))
        images[index] = image
        masks[index] = cv2.resize(mask, masks.shape[1:], interpolation=cv2.INTER_AREA)
        scenes.append(scene)
    return Scenes(tuple(scenes), images, masks)


def _surroundings(scene: Scene, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """A rectangle around the object with a random margin: top, left, bottom, right."""
    rows, columns = np.nonzero(object_mask(scene))
    margin = rng.uniform(0.0, 0.6, 4) * scene.radius
    top, left = max(rows.min() - margin[0], 0), max(columns.min() - margin[1], 0)
    bottom, right = min(rows.max() + 1 + margin[2], SIZE), min(columns.max() + 1 + margin[3], SIZE)
    return int(top), int(left), int(np.ceil(bottom)), int(np.ceil(right))


def _resized(picture: np.ndarray) -> np.ndarray:
    full: np.ndarray = cv2.resize(picture, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
    return full
