"""The vocabulary of the shapes world, and what a phrase of it means.

An *attribute* is one of the words below ("red", "striped", "circle") or a background ("blue
background"). A `Concept` is a set of alternatives, each a set of attributes that hold together:
"red circle" has one alternative of two attributes, "red or blue" two of one attribute each. An exception
stands in an alternative as a *negated* attribute: "circle but not red" is {"circle", "not red"}.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")
TEXTURES = ("solid", "striped", "checkered", "dotted")
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "crescent", "heart")
BACKGROUNDS = tuple(f"{color} background" for color in COLORS)

#: The shape that the target network never sees in training.
UNSEEN_SHAPE = "heart"

FACETS: dict[str, tuple[str, ...]] = {
    "color": COLORS,
    "texture": TEXTURES,
    "shape": SHAPES,
    "background": BACKGROUNDS,
}
FACET_OF = {attribute: facet for facet, values in FACETS.items() for attribute in values}
#: The order in which attributes stand in a phrase.
ORDER = {attribute: index for index, attribute in enumerate(FACET_OF)}
#: What stands before an attribute that must not hold.
NOT = "not "

_SYNONYMS = {
    "stripes": "striped",
    "stripe": "striped",
    "stripy": "striped",
    "dots": "dotted",
    "dot": "dotted",
    "spotted": "dotted",
    "checks": "checkered",
    "checked": "checkered",
    "checkerboard": "checkered",
    "plain": "solid",
    "crosses": "cross",
    **{f"{shape}s": shape for shape in SHAPES if shape != "cross"},
}
_OR_BACKGROUND = re.compile(rf"\b((?:(?:{'|'.join(COLORS)}) or )+)(?=(?:{'|'.join(COLORS)}) background)")
_NEGATION = re.compile(r"\b(?:but not|not|except(?: for)?|without|non)\b")
_ATTRIBUTE = re.compile(
    "|".join(
        [
            rf"\b(?P<background>{'|'.join(COLORS)}) backgrounds?\b",
            rf"\b(?P<word>{'|'.join([*COLORS, *TEXTURES, *SHAPES, *_SYNONYMS])})\b",
        ]
    )
)


@dataclass(frozen=True)
class Concept:
    """Alternatives, each a set of attributes that must hold together; no alternative: nothing named.

    Kept in its shortest form ("circle or red circle" is circle), so that equal concepts are equal objects.
    """

    alternatives: frozenset[frozenset[str]]

    def __post_init__(self) -> None:
        possible = {_plain(a) for a in self.alternatives if not _contradicts(a)}
        shortest = {a for a in possible if not any(other != a and _hold(other, a) for other in possible)}
        object.__setattr__(self, "alternatives", frozenset(shortest))

    @classmethod
    def of(cls, *alternatives: Iterable[str]) -> Concept:
        """The concept with these alternatives; an unknown attribute raises `ValueError`."""
        sets = frozenset(frozenset(alternative) for alternative in alternatives)
        named = {attribute.removeprefix(NOT) for alternative in sets for attribute in alternative}
        if unknown := sorted(named - FACET_OF.keys()):
            raise ValueError(f"unknown attributes {unknown}; known are {sorted(FACET_OF)}")
        return cls(sets)

    @property
    def attributes(self) -> frozenset[str]:
        """All attributes of all alternatives, the negated ones with "not "."""
        return frozenset().union(*self.alternatives)

    def matches(self, attributes: Collection[str]) -> bool:
        """Whether an image with these attributes shows the concept."""
        return any(_hold(alternative, attributes) for alternative in self.alternatives)

    def implies(self, other: Concept) -> bool:
        """Whether every image of this concept shows the other, too: "red circle" implies "red"."""
        return bool(self.alternatives) and all(map(other.matches, self.alternatives))

    def ordered(self) -> list[list[str]]:
        """The alternatives in a fixed order, those with a noun first; attributes as in a phrase."""
        return sorted(
            (sorted(alternative, key=_place) for alternative in self.alternatives),
            key=lambda words: ("shape" not in map(FACET_OF.get, words), [_place(word) for word in words]),
        )

    def __str__(self) -> str:
        return " or ".join(_phrase(words) for words in self.ordered())


def facet_of(attribute: str) -> str:
    """The facet of an attribute, negated or not."""
    return FACET_OF[attribute.removeprefix(NOT)]


def parse(text: str) -> Concept:
    """The concept that a phrase or caption names; words that the world does not know are ignored.

    Around "or" a part that has no noun yet shares what follows ("red or blue circle" is red circle or
    blue circle), and a mere background shares what stands before ("cross on a red or green background").
    A part with a noun of its own is complete: "red circle or square", "red circle or blue star". What follows
    "not", "except" or "without" up to the next "or" must not hold: "circle but not red". It is a reading of
    short labels, not of English: commas, and two things shared at once, are beyond it.
    """
    text = _OR_BACKGROUND.sub(lambda match: match[1].replace(" or ", " background or "), text.lower())
    parts = [named for part in re.split(r"\bor\b", text) if (named := _attributes(part))]
    return Concept(frozenset(_completed(index, parts) for index in range(len(parts))))


def _hold(alternative: Collection[str], attributes: Collection[str]) -> bool:
    """Whether all of an alternative follows from these attributes: "blue" rules out "red"."""
    return all(
        attribute in attributes
        or (attribute.startswith(NOT) and any(_excludes(other, attribute) for other in attributes))
        for attribute in alternative
    )


def _plain(alternative: frozenset[str]) -> frozenset[str]:
    """Without exceptions that say nothing more: "red but not blue" is red."""
    said = {a for a in alternative if not a.startswith(NOT)}
    return frozenset(a for a in alternative if a in said or not any(_excludes(other, a) for other in said))


def _contradicts(alternative: frozenset[str]) -> bool:
    """Whether it asks for an attribute and rules it out: "red but not red"."""
    return any(NOT + attribute in alternative for attribute in alternative)


def _excludes(attribute: str, negated: str) -> bool:
    """Whether an attribute that holds keeps the negated one from holding: an image has one color only."""
    excluded = negated.removeprefix(NOT)
    return attribute != excluded and FACET_OF.get(attribute) == FACET_OF[excluded]


def _place(attribute: str) -> int:
    """Where an attribute stands in a phrase; exceptions come last."""
    return ORDER[attribute.removeprefix(NOT)] + len(ORDER) * attribute.startswith(NOT)


def _phrase(words: list[str]) -> str:
    named = [word for word in words if not word.startswith(NOT)]
    return " but ".join([*([" ".join(named)] if named else []), *words[len(named) :]])


def _attributes(text: str) -> frozenset[str]:
    named, *ruled_out = _NEGATION.split(text)
    return frozenset([*_named(named), *(NOT + word for part in ruled_out for word in _named(part))])


def _named(text: str) -> list[str]:
    found = []
    for match in _ATTRIBUTE.finditer(text):
        word = match["word"]
        found.append(_SYNONYMS.get(word, word) if word else f"{match['background']} background")
    return found


def _completed(index: int, parts: list[frozenset[str]]) -> frozenset[str]:
    part, facets = parts[index], _facets(parts[index])
    noun = next((other for other in parts[index + 1 :] if "shape" in _facets(other)), frozenset[str]())
    if "shape" not in facets and facets & _facets(noun):
        return part | {attribute for attribute in noun if facet_of(attribute) not in facets}
    before = parts[index - 1] if index else frozenset[str]()
    if facets == {"background"} and "background" in _facets(before):
        return part | {attribute for attribute in before if facet_of(attribute) != "background"}
    return part


def _facets(attributes: frozenset[str]) -> set[str]:
    """The facets of what is named; an exception is no noun."""
    return {FACET_OF[attribute] for attribute in attributes if not attribute.startswith(NOT)}
