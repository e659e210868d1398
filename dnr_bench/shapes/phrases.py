"""Phrases for concepts of the shapes world: what its text models are trained and tested on."""

from __future__ import annotations

import re

import numpy as np

from dnr_bench.shapes.concepts import BACKGROUNDS, COLORS, FACET_OF, FACETS, SHAPES, TEXTURES, Concept
from dnr_bench.shapes.render import Scene
from dnr_bench.shapes.world import CAPTION_TEMPLATES

_PREFIXES = ("", "a ", "a photo of a ", "a realistic image of ", "a realistic image of a ", "an image of ")
_NOUNS = ("thing", "shape", "object", "things", "shapes")
_TEXTURE_NOUNS = {"striped": "stripes", "dotted": "dots", "checkered": "checks", "solid": "plain"}

#: Every word that a phrase, a caption or a label of the world can hold.
WORDS = tuple(
    dict.fromkeys(
        [*COLORS, *TEXTURES, *SHAPES, "background", *_TEXTURE_NOUNS.values(), *_NOUNS]
        + [f"{shape}s" for shape in SHAPES if shape != "cross"]
        + ["crosses", "or", "and", "with", ",", "."]
        + re.findall(r"[a-z]+", re.sub(r"{\w+}", "", " ".join((*_PREFIXES, *CAPTION_TEMPLATES))))
    )
)


def phrase(concept: Concept, rng: np.random.Generator) -> str:
    """One of the ways to say the concept, e.g. "a photo of a red striped thing on a blue background"."""
    text = " or ".join(_words(words, rng) for words in concept.ordered())
    return str(rng.choice(_PREFIXES)) + text


def partial_concept(scene: Scene, rng: np.random.Generator) -> Concept:
    """Some of the scene's attributes, now and then with an alternative that may not hold."""
    attributes = sorted(scene.attributes)
    size = int(rng.choice([1, 2, 3, 4], p=[0.45, 0.35, 0.12, 0.08]))
    named = rng.choice(attributes, size, replace=False).tolist()
    if size <= 2 and rng.random() < 0.15:
        swapped = int(rng.integers(size))
        other = str(rng.choice(FACETS[FACET_OF[named[swapped]]]))
        return Concept.of(named, [*named[:swapped], other, *named[swapped + 1 :]])
    return Concept.of(named)


def _words(attributes: list[str], rng: np.random.Generator) -> str:
    texture_noun = len(attributes) == 1 and attributes[0] in TEXTURES and rng.random() < 0.3
    if texture_noun:
        return _TEXTURE_NOUNS[attributes[0]]
    background = next((a for a in attributes if a in BACKGROUNDS), None)
    about = [a for a in attributes if a in COLORS or a in TEXTURES]
    if rng.random() < 0.5:
        about.reverse()
    shape = next((a for a in attributes if a in SHAPES), None)
    if shape is None and (background is None or about) and rng.random() < 0.6:
        shape = str(rng.choice(_NOUNS))
    object_words = " ".join([*about, *([shape] if shape else [])])
    if background is None:
        return object_words
    joined = " on a " if rng.random() < 0.7 else " "
    return f"{object_words}{joined}{background}" if object_words else background
