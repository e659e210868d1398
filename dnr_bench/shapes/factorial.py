"""Every combination of attributes in the same layouts: what an attribute alone does to a unit, exactly.

A layout is all of a scene that is no attribute: place, size, rotation, phase of the texture, noise. Two
images of one layout that differ in one facet are an exact counterfactual pair, and the whole design holds all
of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import product

import numpy as np
from jaxtyping import Bool, Float, Int

from dnr_bench.data.images import ProbeSet
from dnr_bench.infra.ranges import check_range
from dnr_bench.shapes import render
from dnr_bench.shapes.concepts import FACETS, Concept, facet_of
from dnr_bench.shapes.render import Scene, sample_scene
from dnr_bench.shapes.world import caption, scene_rng
from dnr_bench.stages.lazy import Lazy


class FactorialProbe:
    """All 1,792 combinations of attributes in `n_layouts` layouts, drawn by the seed; layout by layout."""

    world: str | None = "shapes"

    def __init__(self, n_layouts: int) -> None:
        check_range(1, 1_000, n_layouts=n_layouts)
        self.n_layouts = n_layouts

    def load(self, seed: int) -> ProbeSet:
        """The images with their captions."""
        n = self.n_layouts * len(cells())
        scenes = Lazy(n, lambda index: self.scene(seed, index))
        return ProbeSet(
            name=f"shapes-factorial-{self.n_layouts}",
            ids=[f"{render.WORLD}-factorial-{seed}-{index}" for index in range(n)],
            images=Lazy(n, lambda index: render.render(scenes[index])),
            captions=[caption(scenes[index]) for index in range(n)],
        )

    def scene(self, seed: int, index: int) -> Scene:
        """The scene of one image."""
        layout, cell = divmod(index, len(cells()))
        color, texture, shape, background = cells()[cell]
        drawn = sample_scene(scene_rng("factorial", seed, layout))
        return replace(drawn, color=color, texture=texture, shape=shape, background=background)


@cache
def cells() -> tuple[tuple[str, ...], ...]:
    """The combinations of color, texture, shape and background, in order.

    No object has the color of its background.
    """
    return tuple(cell for cell in product(*FACETS.values()) if f"{cell[0]} background" != cell[3])


@dataclass(frozen=True)
class Contrasts:
    """What a label claims of a unit, as weights on the cells of the design: claim = weights @ activations.

    level: the mean over cells that show the label. necessary: for each attribute that it names the fall when
    that one is changed so that the label no longer holds. sufficient: for each facet that it leaves open the
    mean when that one is changed.
    """

    level: Float[np.ndarray, " cells"]
    necessary: dict[str, Float[np.ndarray, " cells"]]
    sufficient: dict[str, Float[np.ndarray, " cells"]]


@lru_cache(maxsize=4096)
def contrasts(concept: Concept) -> Contrasts | None:
    """The contrasts of a label; None where no image shows it."""
    shows = np.asarray([concept.matches(cell) for cell in cells()])
    if not shows.any():
        return None
    holding = {a: np.asarray([Concept.of(a).matches(cell) for cell in cells()]) for a in concept.alternatives}
    necessary = {}
    for attribute in sorted(concept.attributes):
        base = _any([held for a, held in holding.items() if attribute in a])
        kept, moved = _changed(base, facet_of(attribute), ~shows)
        necessary[attribute] = kept - moved
    sufficient = {}
    for facet in FACETS:
        base = _any([held for a, held in holding.items() if facet not in map(facet_of, a)])
        if base.any():
            sufficient[facet] = _changed(base, facet, np.ones(len(shows), bool))[1]
    return Contrasts(shows / shows.sum(), necessary, sufficient)


def necessity(
    found: Contrasts, responses: Float[np.ndarray, "units cells"]
) -> dict[str, Float[np.ndarray, " units"]]:
    """For each attribute that the label names by how much of its range each unit falls without it, 0..1."""
    return {name: np.clip(responses @ weights, 0, 1) for name, weights in found.necessary.items()}


def sufficiency(
    found: Contrasts, responses: Float[np.ndarray, "units cells"]
) -> dict[str, Float[np.ndarray, " units"]]:
    """For each facet that the label leaves open how high each unit stays when it is changed, 0..1.

    Of a label that names all four facets: how high the unit is where the label holds.
    """
    kept = found.sufficient or {"level": found.level}
    return {name: np.clip(responses @ weights, 0, 1) for name, weights in kept.items()}


def responses(activations: Float[np.ndarray, "images units"]) -> Float[np.ndarray, "units cells"]:
    """The mean over layouts of each unit in each cell, from 0 (its median cell) to 1 (its highest).

    Units that are the same in all cells are 0 everywhere.
    """
    by_cell = activations.reshape(-1, len(cells()), activations.shape[1]).mean(axis=0).T
    low = np.median(by_cell, axis=1, keepdims=True)
    span = by_cell.max(axis=1, keepdims=True) - low
    scaled = np.divide(by_cell - low, span, out=np.zeros(by_cell.shape), where=span > 1e-9)
    found: np.ndarray = np.clip(scaled, 0, 1)
    return found


def _changed(
    base: Bool[np.ndarray, " cells"], facet: str, allowed: Bool[np.ndarray, " cells"]
) -> tuple[Float[np.ndarray, " cells"], Float[np.ndarray, " cells"]]:
    """The weights of base cells, and of the allowed cells that they become when a facet is changed.

    Every base cell that can be changed counts the same, and so does each of its changes.
    """
    rows = np.flatnonzero(base)
    others = _neighbors()[facet][rows]
    possible = (others >= 0) & allowed[others]
    n = possible.sum(axis=1)
    rows, others, possible, n = (part[n > 0] for part in (rows, others, possible, n))
    kept, moved = np.zeros(len(base)), np.zeros(len(base))
    if len(rows):
        kept[rows] = 1 / len(rows)
        shares = possible / n[:, None] / len(rows)
        np.add.at(moved, others[possible], shares[possible])
    return kept, moved


@cache
def _neighbors() -> dict[str, Int[np.ndarray, "cells values"]]:
    """For each cell those that differ from it in one facet only; -1 where there is none."""
    place = {cell: index for index, cell in enumerate(cells())}
    found = {}
    for position, (facet, values) in enumerate(FACETS.items()):
        rows = [
            [
                place.get((*cell[:position], value, *cell[position + 1 :]), -1)
                if value != cell[position]
                else -1
                for value in values
            ]
            for cell in cells()
        ]
        found[facet] = np.asarray(rows)
    return found


def _any(masks: Sequence[Bool[np.ndarray, " cells"]]) -> Bool[np.ndarray, " cells"]:
    found: np.ndarray = np.any(np.stack([np.zeros(len(cells()), bool), *masks]), axis=0)
    return found
