"""A part of a probing set, for which nothing is computed again that is known of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from dnr_bench.data.exemplars import Activations
from dnr_bench.data.images import ConceptMasks, ProbeSet
from dnr_bench.infra.digests import digest
from dnr_bench.stages.lazy import picked

T = TypeVar("T")


def bootstrap_places(n_images: int, rng: np.random.Generator) -> list[int]:
    """The places of the distinct images of a bootstrap sample, in order: about 63% of them.

    An image that is drawn twice counts once, since it can be an exemplar once.
    """
    return sorted(set(rng.integers(n_images, size=n_images).tolist()))


def part_of(probe: ProbeSet, places: Sequence[int]) -> ProbeSet:
    """The images at these places, with all that is known of them."""
    return replace(
        probe,
        name=f"{probe.name}-part",
        ids=[probe.ids[place] for place in places],
        images=picked(probe.images, places),
        captions=_at(probe.captions, places),
        masks=None if probe.masks is None else picked(probe.masks, places),
        classes=_at(probe.classes, places),
        concepts=None if probe.concepts is None else _masks(probe.concepts, places),
        unchanged_ids=_at(probe.unchanged_ids, places),
        names=_at(probe.names or None, places) or (),
    )


def activations_at(found: Activations, places: Sequence[int]) -> Activations:
    """The rows of these images."""
    name = digest({"part_of": found.digest, "places": list(places)})
    return Activations(found.layer, np.asarray(found.values[list(places)]), name)


def _at(items: Sequence[T] | None, places: Sequence[int]) -> list[T] | None:
    return None if items is None else [items[place] for place in places]


def _masks(concepts: ConceptMasks, places: Sequence[int]) -> ConceptMasks:
    return replace(
        concepts,
        load=lambda index: concepts.load(places[index]),
        annotated=lambda index: concepts.annotated(places[index]),
        version=digest({"part_of": concepts.version, "places": list(places)}),
    )
