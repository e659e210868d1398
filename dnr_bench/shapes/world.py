"""The concepts planted in the embedded target network, and the captions of the world's images."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Literal
from zlib import crc32

import numpy as np

from dnr_bench.shapes.concepts import BACKGROUNDS, COLORS, SHAPES, TEXTURES, UNSEEN_SHAPE, Concept, parse
from dnr_bench.shapes.render import Scene

SEEN_SHAPES = tuple(shape for shape in SHAPES if shape != UNSEEN_SHAPE)

#: Classes of the target's last layer, in the order of its units.
CLASSES = tuple(f"{texture} {shape}" for texture, shape in product(TEXTURES, SEEN_SHAPES))

#: Seeds of the splits; scenes of different splits never share a random stream.
SPLIT_SEEDS = {"train": 1, "probe": 2, "evaluation": 3}

Kind = Literal["color", "texture", "shape", "background", "and", "or", "dead", "random"]

_CONJUNCTIONS = (
    "red circle", "blue square", "green star", "yellow triangle", "white ring", "purple cross",
    "orange crescent", "pink circle", "striped ring", "dotted square", "checkered triangle",
    "solid star", "striped cross", "dotted circle", "red striped", "blue dotted", "green checkered",
    "yellow solid", "red square green background", "white star blue background",
    "purple dotted ring", "orange striped triangle",
)  # fmt: skip
_DISJUNCTIONS = (
    "red or blue", "green or purple", "yellow or white", "orange or pink", "star or cross",
    "circle or ring", "square or triangle", "striped or dotted", "solid or checkered",
    "red background or green background", "red circle or blue star",
)  # fmt: skip

CAPTION_TEMPLATES = (
    "a {color} {texture} {shape} on a {background}",
    "a {texture} {color} {shape} against a {background}",
    "on a {background}, a {shape} that is {color} and {texture}",
    "a {background} with a {color} {texture} {shape}",
)


@dataclass(frozen=True)
class PlantedUnit:
    """The concept that a unit of `concepts` was trained to detect; none for dead and random units."""

    unit: int
    kind: Kind
    concept: str

    @property
    def truth(self) -> Concept:
        """The concept's attributes."""
        return parse(self.concept)


def planted_units() -> tuple[PlantedUnit, ...]:
    """The 64 units of `concepts`: 27 attributes, 22 conjunctions, 11 disjunctions, 2 dead, 2 random."""
    named: list[tuple[Kind, tuple[str, ...]]] = [
        ("color", COLORS),
        ("texture", TEXTURES),
        ("shape", SEEN_SHAPES),
        ("background", BACKGROUNDS),
        ("and", _CONJUNCTIONS),
        ("or", _DISJUNCTIONS),
        ("dead", ("", "")),
        ("random", ("", "")),
    ]
    flat = [(kind, concept) for kind, concepts in named for concept in concepts]
    return tuple(PlantedUnit(unit, kind, concept) for unit, (kind, concept) in enumerate(flat))


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
