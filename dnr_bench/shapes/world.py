"""Classes, splits and captions of the world's images."""

from __future__ import annotations

from itertools import product
from zlib import crc32

import numpy as np

from dnr_bench.shapes.concepts import SHAPES, TEXTURES, UNSEEN_SHAPE
from dnr_bench.shapes.render import Scene

SEEN_SHAPES = tuple(shape for shape in SHAPES if shape != UNSEEN_SHAPE)

#: Classes of the target's last layer, in the order of its units.
CLASSES = tuple(f"{texture} {shape}" for texture, shape in product(TEXTURES, SEEN_SHAPES))

#: Seeds of the splits; scenes of different splits never share a random stream.
SPLIT_SEEDS = {"train": 1, "probe": 2, "evaluation": 3, "factorial": 4}

CAPTION_TEMPLATES = (
    "a {color} {texture} {shape} on a {background}",
    "a {texture} {color} {shape} against a {background}",
    "on a {background}, a {shape} that is {color} and {texture}",
    "a {background} with a {color} {texture} {shape}",
)


def caption(scene: Scene, template: int = 0) -> str:
    """The scene in words; templates name the same four attributes in different orders."""
    return CAPTION_TEMPLATES[template].format(
        color=scene.color, texture=scene.texture, shape=scene.shape, background=scene.background
    )


def class_index(scene: Scene) -> int:
    """The scene's class among `CLASSES`; -1 for the shape that the target does not know."""
    name = f"{scene.texture} {scene.shape}"
    return CLASSES.index(name) if name in CLASSES else -1


def held_out_scene(scene: Scene) -> bool:
    """Whether this combination of four attributes (1 in 20) is kept from the text-to-image model."""
    return crc32(caption(scene).encode()) % 20 == 0


def held_out_prompt(prompt: str) -> bool:
    """Whether this wording (1 in 10) is kept from the text-to-image model."""
    return crc32(prompt.encode()) % 10 == 0


def scene_rng(split: str, seed: int, index: int) -> np.random.Generator:
    """The random stream of one image of a split."""
    return np.random.default_rng([SPLIT_SEEDS[split], seed, index])
