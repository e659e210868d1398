"""What the units of the embedded targets were trained to detect: 64 units, and 512 of more kinds.

The 512 are drawn from all concepts of a kind by a fixed seed. `PlantedUnit.response` is what a unit was
trained to give; planted.json beside the weights keeps the truth for evaluators.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product
from math import sqrt
from typing import Any, Literal

import numpy as np

from dnr_bench.shapes.concepts import BACKGROUNDS, COLORS, FACETS, NOT, TEXTURES, Concept, parse
from dnr_bench.shapes.render import LARGEST, SIZE, SMALLEST, Scene, margin
from dnr_bench.shapes.world import SEEN_SHAPES

Kind = Literal[
    "color", "texture", "shape", "background",
    "and", "pair", "triple", "rare",
    "or", "polysemantic", "exception", "graded", "weak",
    "nameless", "dead", "random",
]  # fmt: skip

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

#: The second of two graded alternatives drives its unit so far.
HALF = 0.5
#: The planted AUROC of weak units runs evenly from the first to the second.
WEAKEST, STRONGEST_WEAK = 0.76, 0.94


@dataclass(frozen=True)
class PlantedUnit:
    """What a unit of `concepts` was trained to detect.

    concept: in words; "" where no word of the world says it.
    weights: how far each alternative in `concept` drives the unit, in the order of the words; () for fully.
    factor: of `FACTORS`, for what has no name; weak units add one to their concept.
    auroc: planted selectivity of weak units.
    """

    unit: int
    kind: Kind
    concept: str
    weights: tuple[float, ...] = ()
    factor: str | None = None
    auroc: float | None = None

    def __post_init__(self) -> None:
        if frozenset[frozenset[str]]().union(*(part.alternatives for part, _ in self._parts)) != (
            self.truth.alternatives
        ):
            raise ValueError(f"{self.concept!r} is read otherwise than its sides are")

    @cached_property
    def truth(self) -> Concept:
        """The concept's attributes."""
        return parse(self.concept)

    @property
    def trained(self) -> bool:
        """Whether the unit learns anything; dead and random ones do not."""
        return self.kind not in ("dead", "random")

    @cached_property
    def _parts(self) -> list[tuple[Concept, float]]:
        parts = self.concept.split(" or ") if self.weights else [self.concept]
        return [(parse(part), weight) for part, weight in zip(parts, self.weights or (1.0,), strict=True)]

    def drive(self, attributes: Collection[str]) -> float:
        """How far such an image shows the concept: 1, 0, or the weight of a graded alternative."""
        return max(weight * concept.matches(attributes) for concept, weight in self._parts)

    def response(self, scene: Scene) -> float:
        """The activation 0..1 that the unit was trained to have.

        A weak unit adds its concept to a factor that is uniform in 0..1, by as much as gives its AUROC: the
        sum is higher with the concept than without in 1 - (1 - gain)^2 / 2 of the pairs.
        """
        if self.factor is None:
            return self.drive(scene.attributes)
        nameless = FACTORS[self.factor](scene)
        if self.auroc is None:
            return nameless
        gain = 1 - sqrt(2 * (1 - self.auroc))
        return (gain * self.drive(scene.attributes) + nameless) / (1 + gain)

    def record(self) -> dict[str, object]:
        """The unit's entry in planted.json."""
        entry: dict[str, object] = {
            "layer": "concepts",
            "unit": self.unit,
            "kind": self.kind,
            "concept": self.concept,
        }
        if self.weights:
            entry["weights"] = list(self.weights)
        if self.factor and not self.concept:
            entry["detects"] = self.factor
        if self.auroc:
            entry["auroc"] = self.auroc
        return entry


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


def planted_units_512() -> tuple[PlantedUnit, ...]:
    """The 512 units of the wide target.

    27 single attributes; 140 pairs, 80 triples and 32 sets of all four (rare: about 1 image in 1,600) across
    facets; 56 alternatives within a facet and 48 unrelated ones (polysemantic); 40 exceptions; 24 graded; 32
    weak; 17 for position, size and rotation, which nobody's vocabulary names; 8 dead and 8 random.
    """
    rng = np.random.default_rng(512)
    named: list[tuple[Kind, Sequence[str]]] = [
        ("color", COLORS),
        ("texture", TEXTURES),
        ("shape", SEEN_SHAPES),
        ("background", BACKGROUNDS),
        ("pair", _some(140, _conjunctions(2), rng)),
        ("triple", _some(80, _conjunctions(3), rng)),
        ("rare", _some(32, _conjunctions(4), rng)),
        ("or", _within_a_facet(rng)),
        ("polysemantic", _unrelated(rng)),
        ("exception", _exceptions(rng)),
    ]
    entries: list[dict[str, Any]] = [
        {"kind": kind, "concept": concept} for kind, concepts in named for concept in concepts
    ]
    entries += _graded(rng)
    entries += _weak(rng)
    entries += [{"kind": "nameless", "concept": "", "factor": factor} for factor in FACTORS]
    entries += [{"kind": kind, "concept": ""} for kind in ("dead", "random") for _ in range(8)]
    return tuple(PlantedUnit(unit, **entry) for unit, entry in enumerate(entries))


# concepts of a kind


def _seen() -> dict[str, tuple[str, ...]]:
    return {**FACETS, "shape": SEEN_SHAPES}


def _conjunctions(size: int) -> Iterator[Concept]:
    """All concepts of one attribute from each of `size` facets that an image can show."""
    for facets in combinations(_seen().values(), size):
        for attributes in product(*facets):
            if _possible(attributes):
                yield Concept.of(attributes)


def _possible(attributes: Sequence[str]) -> bool:
    """No object has the color of its background."""
    return not any(f"{attribute} background" in attributes for attribute in attributes)


def _some(n: int, concepts: Iterator[Concept] | Sequence[Concept], rng: np.random.Generator) -> list[str]:
    """`n` of the concepts in words that are read back as the same."""
    readable = [concept for concept in dict.fromkeys(concepts) if parse(str(concept)) == concept]
    return [str(readable[place]) for place in sorted(rng.permutation(len(readable))[:n])]


def _within_a_facet(rng: np.random.Generator) -> list[str]:
    counts = {"color": 16, "texture": 6, "shape": 16, "background": 18}
    pairs = {
        facet: [Concept.of([first], [second]) for first, second in combinations(values, 2)]
        for facet, values in _seen().items()
    }
    return [text for facet, n in counts.items() for text in _some(n, pairs[facet], rng)]


def _across_facets() -> list[tuple[str, str]]:
    """All ordered pairs of attributes of different facets."""
    facets = _seen()
    return [
        (one, other)
        for mine, theirs in product(facets, facets)
        if mine != theirs
        for one, other in product(facets[mine], facets[theirs])
        if _possible((one, other))
    ]


def _unrelated(rng: np.random.Generator) -> list[str]:
    singles = [Concept.of([one], [other]) for one, other in _across_facets()]
    pairs = list(_conjunctions(2))
    chosen = rng.permutation(len(pairs))
    mixed = [
        Concept(frozenset([*pairs[i].alternatives, frozenset([other])]))
        for i, (other, _) in zip(chosen, rng.permutation(np.asarray(_across_facets())), strict=False)
    ]
    both = [
        Concept(pairs[i].alternatives | pairs[j].alternatives)
        for i, j in zip(chosen, rng.permutation(len(pairs)), strict=True)
        if not pairs[i].attributes & pairs[j].attributes
    ]
    several = [[c for c in of if len(c.alternatives) == 2] for of in (mixed, both)]
    return [*_some(24, singles, rng), *_some(16, several[0], rng), *_some(8, several[1], rng)]


def _exceptions(rng: np.random.Generator) -> list[str]:
    """Images of an attribute, or of a pair of them, except those that show another attribute."""
    singles = [Concept.of([one, NOT + other]) for one, other in _across_facets()]
    pairs = [
        Concept.of([*alternative, NOT + other])
        for concept in _conjunctions(2)
        for alternative in concept.alternatives
        for facet, values in _seen().items()
        if not alternative & set(values)
        for other in values
        if _possible([*alternative, other])
    ]
    return [*_some(28, singles, rng), *_some(12, pairs, rng)]


def _graded(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Twelve pairs of attributes of one facet and twelve of two, the second of half the weight."""
    within = [pair for values in _seen().values() for pair in combinations(values, 2)]
    pairs = [
        pair for of in (within, _across_facets()) for pair in rng.permutation(np.asarray(of))[:12].tolist()
    ]
    return [_graded_entry(one, other) for one, other in pairs]


def _graded_entry(full: str, half: str) -> dict[str, Any]:
    """Both in the order in which they are read as they are meant: "blue or purple background" has no blue."""
    meant = Concept.of([full], [half])
    if parse(f"{full} or {half}") == meant:
        return {"kind": "graded", "concept": f"{full} or {half}", "weights": (1.0, HALF)}
    return {"kind": "graded", "concept": f"{half} or {full}", "weights": (HALF, 1.0)}


def _weak(rng: np.random.Generator) -> list[dict[str, Any]]:
    singles = [Concept.of([value]) for values in _seen().values() for value in values]
    concepts = [*_some(16, singles, rng), *_some(16, _conjunctions(2), rng)]
    aurocs = rng.permutation(np.linspace(WEAKEST, STRONGEST_WEAK, len(concepts)).round(3))
    spread = ("right to left", "left to right", "bottom to top", "top to bottom", "small to large")
    return [
        {"kind": "weak", "concept": concept, "factor": spread[i % len(spread)], "auroc": float(auroc)}
        for i, (concept, auroc) in enumerate(zip(concepts, aurocs, strict=True))
    ]


# what has no name


def _x(scene: Scene) -> float:
    """Where the object stands from left to right, uniform in 0..1."""
    return (scene.x - margin(scene.radius)) / (SIZE - 2 * margin(scene.radius))


def _y(scene: Scene) -> float:
    return (scene.y - margin(scene.radius)) / (SIZE - 2 * margin(scene.radius))


def _size(scene: Scene) -> float:
    return (scene.radius - SMALLEST) / (LARGEST - SMALLEST)


def _turned(scene: Scene, degrees: float) -> float:
    """1 where lines of the object run at this angle or square to it, 0 where they are 45 degrees off.

    0.5 for objects on which no such line can be seen.
    """
    if scene.shape not in ("square", "cross") and scene.texture == "solid":
        return 0.5
    return 0.5 + 0.5 * float(np.cos(4 * (scene.angle - np.deg2rad(degrees))))


#: Properties of scenes, 0..1, for which neither captions nor concepts have a word.
FACTORS: Mapping[str, Callable[[Scene], float]] = {
    "left to right": _x,
    "right to left": lambda scene: 1 - _x(scene),
    "top to bottom": _y,
    "bottom to top": lambda scene: 1 - _y(scene),
    "top left": lambda scene: (1 - _x(scene)) * (1 - _y(scene)),
    "top right": lambda scene: _x(scene) * (1 - _y(scene)),
    "bottom left": lambda scene: (1 - _x(scene)) * _y(scene),
    "bottom right": lambda scene: _x(scene) * _y(scene),
    "center": lambda scene: 1 - max(abs(2 * _x(scene) - 1), abs(2 * _y(scene) - 1)),
    "edge": lambda scene: max(abs(2 * _x(scene) - 1), abs(2 * _y(scene) - 1)),
    "small to large": _size,
    "large to small": lambda scene: 1 - _size(scene),
    "medium size": lambda scene: 1 - abs(2 * _size(scene) - 1),
    "upright": lambda scene: _turned(scene, 0),
    "diagonal": lambda scene: _turned(scene, 45),
    "turned right": lambda scene: _turned(scene, 22.5),
    "turned left": lambda scene: _turned(scene, 67.5),
}
