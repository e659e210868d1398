"""Boolean formulas of concepts, and the beam search for those that a neuron's activation detects. Pure.

INVERT (Bykov et al. 2023): compositional explanations by the area under the ROC curve.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Bool, Float

#: Gives the presence of all concepts anew, some images at a time, in order.
ConceptChunks = Callable[[], Iterator[Bool[np.ndarray, "images_of_chunk concepts"]]]
#: A concept's number, and whether it must not be there.
Literal = tuple[int, bool]


@dataclass(frozen=True)
class Formula:
    """A formula as alternatives, each a set of concepts that must all be there, or not be there."""

    alternatives: tuple[tuple[Literal, ...], ...]

    def __post_init__(self) -> None:
        """One formula is one object, in whatever order it was put together."""
        ordered = {tuple(sorted(set(alternative))) for alternative in self.alternatives}
        object.__setattr__(self, "alternatives", tuple(sorted(ordered)))

    def holds(self, present: Bool[np.ndarray, "images concepts"]) -> Bool[np.ndarray, " images"]:
        """The images for which it is true."""
        found = np.zeros(len(present), bool)
        for alternative in self.alternatives:
            found |= np.logical_and.reduce([present[:, c] ^ negated for c, negated in alternative])
        return found

    def grown(self, conjunction: bool, literal: Literal) -> Formula:
        """This and (else or) one literal more."""
        if not conjunction:
            return Formula((*self.alternatives, (literal,)))
        return Formula(tuple((*alternative, literal) for alternative in self.alternatives))

    def said(self, concepts: Sequence[str]) -> str:
        """In words: "red and circle or blue but not square"."""
        return " or ".join(_said(alternative, concepts) for alternative in self.alternatives)


@dataclass(frozen=True)
class Detected:
    """A formula with its AUROC, in how many images it is true, and of how many literals it is."""

    formula: Formula
    auc: float
    n: int
    length: int


@dataclass(frozen=True)
class SearchSettings:
    """How far to search, and for what.

    length: literals at most. beam: formulas that are kept of each length. least, most: shares of images that
    a formula may be true for. min_gain: of two formulas the longer one is better only if its AUROC is higher
    by more than this.
    """

    length: int
    beam: int
    least: float
    most: float
    min_gain: float


def search(
    chunks: ConceptChunks, values: Float[np.ndarray, "images units"], settings: SearchSettings
) -> list[list[Detected]]:
    """For each unit the formulas that it detects best, best first; none where none is true often enough.

    Sums of ranks of every longer formula follow from those of its conjunctions: one pass per length for all
    units.
    """
    state = _State(chunks, values, settings)
    found = [list(beam) for beam in state.beams]
    for length in range(2, settings.length + 1):
        state.grow(chunks, length)
        for kept, beam in zip(found, state.beams, strict=True):
            kept += beam
    return [_in_order(kept, settings) for kept in found]


def n_searched(n_concepts: int, settings: SearchSettings) -> int:
    """How many formulas are looked at for each unit."""
    return 2 * n_concepts * (1 + 2 * settings.beam * (settings.length - 1))


def p_value(values: Float[np.ndarray, " images"], holds: Bool[np.ndarray, " images"], n_tests: int) -> float:
    """Of the Mann-Whitney test that a unit is more active where a formula is true, times the tests made."""
    exact = values.astype(np.float64)  # of float32 small P would be 0
    found = scipy.stats.mannwhitneyu(exact[holds], exact[~holds], alternative="greater").pvalue
    return float(min(found * n_tests, 1.0))


def read_formula(text: str) -> tuple[tuple[tuple[str, bool], ...], ...]:
    """The alternatives of a label: (words, whether they must not hold), as `Formula.said` writes them.

    Of an ordinary label itself. "black and white" asks for both.
    """
    sides = [side for side in re.split(r"\s+or\s+", text.strip()) if side]
    return tuple(tuple(_literals(side)) for side in sides)


def formula_words(labels: Sequence[str]) -> list[str]:
    """The distinct words that labels combine by "or", "and" and "not"."""
    return list(dict.fromkeys(words for text in labels for side in read_formula(text) for words, _ in side))


def formula_presence(
    label: str, chunk: Float[np.ndarray, "images words"], column_of: Mapping[str, int]
) -> Float[np.ndarray, " images"]:
    """How far each image shows a label, from the presence of the words that it combines.

    "A or B" is present as far as either is, "A and B" as far as both, "A but not B" as far as A is and B is
    not.
    """
    sides = [
        np.min([np.abs(chunk[:, column_of[words]] - negated) for words, negated in side], axis=0)
        for side in read_formula(label)
    ]
    found: np.ndarray = np.max(sides, axis=0)
    return found


def _literals(side: str) -> Iterator[tuple[str, bool]]:
    for part in re.split(r"\s+(?:and|but)\s+(?=not\s)|\s+and\s+", side):
        yield part.removeprefix("not "), part.startswith("not ")


class _State:
    """Ranks of the activations, sums over single concepts, and the beams of all units."""

    def __init__(
        self, chunks: ConceptChunks, values: Float[np.ndarray, "images units"], settings: SearchSettings
    ) -> None:
        self.settings, self.n_images = settings, len(values)
        self.total = self.n_images * (self.n_images + 1) / 2
        self.ranks = scipy.stats.rankdata(values, axis=0)
        self.sums, self.counts = np.zeros((values.shape[1], 0)), np.zeros(0)
        for rows, present in _placed(chunks):
            if not len(self.counts):
                self.sums, self.counts = (
                    np.zeros((values.shape[1], present.shape[1])),
                    np.zeros(present.shape[1]),
                )
            self.sums += self.ranks[rows].T @ present
            self.counts += present.sum(axis=0)
        self.beams = [self._singles(unit) for unit in range(values.shape[1])]

    def _singles(self, unit: int) -> list[Detected]:
        """The best formulas of one literal."""
        sums, counts = self.sums[unit], np.stack([self.counts, self.n_images - self.counts])
        aucs = self._aucs(np.stack([sums, self.total - sums]), counts)
        return [
            Detected(Formula((((c, bool(negated)),),)), auc, int(counts[negated, c]), 1)
            for auc, (negated, c) in self._best(aucs)
        ]

    def grow(self, chunks: ConceptChunks, length: int) -> None:
        """Formulas with one literal more than those in the beams."""
        owners = [unit for unit, beam in enumerate(self.beams) for _ in beam]
        formulas = [found.formula for beam in self.beams for found in beam]
        if not formulas:
            return
        shape = len(formulas), len(self.counts)
        both_n, both_sums = np.zeros(shape), np.zeros(shape)
        own_sums = np.zeros(len(formulas))
        for rows, present in _placed(chunks):
            holds = np.stack([formula.holds(present) for formula in formulas]).astype(np.float64)
            ranked = holds * self.ranks[rows].T[owners]
            there = present.astype(np.float64)
            both_n += holds @ there
            both_sums += ranked @ there
            own_sums += ranked.sum(axis=1)
        row = 0
        for unit, beam in enumerate(self.beams):
            options = []
            for found in beam:
                mine = self._options(unit, found, own_sums[row], both_n[row], both_sums[row], length)
                options += mine
                row += 1
            distinct = {option.formula: option for option in options}
            best = sorted(distinct.values(), key=lambda option: -option.auc)
            self.beams[unit] = best[: self.settings.beam]

    def _options(
        self,
        unit: int,
        found: Detected,
        own: float,
        both_n: Float[np.ndarray, " concepts"],
        both: Float[np.ndarray, " concepts"],
        length: int,
    ) -> list[Detected]:
        """The best formulas of one more literal: and, and not, or, or not."""
        n, singles = self.counts, self.sums[unit]
        counts = np.stack([both_n, found.n - both_n, found.n + n - both_n, self.n_images - n + both_n])
        sums = np.stack([both, own - both, own + singles - both, self.total - singles + both])
        aucs = self._aucs(sums, counts)
        used = [c for alternative in found.formula.alternatives for c, _ in alternative]
        aucs[:, used] = -np.inf
        return [
            Detected(
                found.formula.grown(bool(kind < 2), (int(c), bool(kind % 2))),
                auc,
                int(counts[kind, c]),
                length,
            )
            for auc, (kind, c) in self._best(aucs)
        ]

    def _aucs(
        self, sums: Float[np.ndarray, "kinds concepts"], counts: Float[np.ndarray, "kinds concepts"]
    ) -> Float[np.ndarray, "kinds concepts"]:
        """-inf for formulas that are true for too few images or too many."""
        pairs = counts * (self.n_images - counts)
        aucs = np.divide(
            sums - counts * (counts + 1) / 2, pairs, out=np.full(sums.shape, -np.inf), where=pairs > 0
        )
        share = counts / self.n_images
        allowed = (share >= self.settings.least) & (share <= self.settings.most)
        return np.where(allowed, aucs, -np.inf)

    def _best(self, aucs: Float[np.ndarray, "kinds concepts"]) -> list[tuple[float, tuple[int, int]]]:
        order = np.argsort(-aucs, axis=None, kind="stable")[: self.settings.beam]
        places = [divmod(int(place), aucs.shape[1]) for place in order]
        return [(float(aucs[place]), place) for place in places if np.isfinite(aucs[place])]


def _placed(chunks: ConceptChunks) -> Iterator[tuple[slice, Bool[np.ndarray, "images_of_chunk concepts"]]]:
    """Each chunk with the rows of its images."""
    first = 0
    for present in chunks():
        yield slice(first, first + len(present)), present
        first += len(present)


def _in_order(found: Sequence[Detected], settings: SearchSettings) -> list[Detected]:
    """By AUROC; first the shortest one that no longer one beats by more than the least gain."""
    if not found:
        return []
    best = {
        length: max((one for one in found if one.length == length), key=lambda one: one.auc)
        for length in sorted({one.length for one in found})
    }
    chosen = best[min(best)]
    for one in best.values():
        if one.auc > chosen.auc + settings.min_gain:
            chosen = one
    rest = sorted((one for one in found if one is not chosen), key=lambda one: -one.auc)
    return [chosen, *rest]


def _said(alternative: Sequence[Literal], concepts: Sequence[str]) -> str:
    there = [concepts[c] for c, negated in alternative if not negated]
    absent = [concepts[c] for c, negated in alternative if negated]
    first = " and ".join(there)
    rest = " and ".join(f"not {concept}" for concept in absent)
    return f"{first} but {rest}" if there and absent else first or rest
