"""Several probing sets as one (DnD 5 probes with EuroSAT, ImageNet and Broden together)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TypeVar

import numpy as np

from dnr_bench.data.images import ConceptMasks, ProbeSet
from dnr_bench.infra.errors import UsageError
from dnr_bench.probes.subset import check_n_images, subset
from dnr_bench.protocols import Probe
from dnr_bench.stages.lazy import Lazy

T = TypeVar("T")


class UnionProbe:
    """The images of several probing sets in order; an image that several sets contain counts once.

    Captions, masks and classes are there if every set has them, masks of concepts if one has.
    n_images: draw this many of the union with the seed; None: all.
    """

    def __init__(self, sets: Mapping[str, Probe], n_images: int | None) -> None:
        wrong = [name for name, probe in sets.items() if not isinstance(probe, Probe)]
        if not sets or wrong:
            raise UsageError(f"sets={list(sets)} must be one or more probing sets; {wrong} are none")
        check_n_images(n_images)
        self.sets, self.n_images = dict(sets), n_images

    def load(self, seed: int) -> ProbeSet:
        """The union; each image is loaded by its own set."""
        sets = [probe.load(seed) for probe in self.sets.values()]
        places = [(number, index) for number, found in enumerate(sets) for index in range(len(found.ids))]
        ids = [sets[number].ids[index] for number, index in places]
        first = {name: place for place, name in reversed(list(enumerate(ids)))}
        distinct = np.asarray(sorted(first.values()))
        chosen = distinct[subset(len(distinct), self.n_images, seed)]
        kept = [places[place] for place in chosen]

        captions = _of_all([found.captions for found in sets])
        classes = _of_all([found.classes for found in sets])
        masks = _of_all([found.masks for found in sets])
        images = [found.images for found in sets]
        return ProbeSet(
            name=f"{'+'.join(self.sets)}-{len(kept)}",
            ids=[ids[place] for place in chosen],
            images=Lazy(len(kept), lambda i: images[kept[i][0]][kept[i][1]]),
            captions=[captions[number][index] for number, index in kept] if captions else None,
            masks=Lazy(len(kept), lambda i: masks[kept[i][0]][kept[i][1]]) if masks else None,
            classes=[classes[number][index] for number, index in kept] if classes else None,
            concepts=_joined([found.concepts for found in sets], kept),
            skipped=[item for found in sets for item in found.skipped],
        )


def _of_all(fields: Sequence[Sequence[T] | None]) -> list[Sequence[T]] | None:
    found = [field for field in fields if field is not None]
    return found if len(found) == len(fields) else None


def _joined(sets: Sequence[ConceptMasks | None], kept: Sequence[tuple[int, int]]) -> ConceptMasks | None:
    """Concepts of all sets, joined by name and category; images of other sets do not show them."""
    known = [masks for masks in sets if masks is not None]
    if not known:
        return None
    every = [
        (name, kind) for masks in known for name, kind in zip(masks.names, masks.categories, strict=True)
    ]
    joined = {concept: place for place, concept in enumerate(dict.fromkeys(every))}
    starts = [0, *accumulate(len(masks.names) if masks is not None else 0 for masks in sets)]
    own = np.asarray([joined[concept] for concept in every], np.int64)

    def load(index: int) -> tuple[np.ndarray, np.ndarray]:
        number, place = kept[index]
        masks = sets[number]
        if masks is None:
            return np.zeros(0, np.int64), np.zeros((0, 1, 1), bool)
        shown, found = masks.load(place)
        return own[starts[number] + shown], found

    def annotated(index: int) -> frozenset[str]:
        number, place = kept[index]
        masks = sets[number]
        return masks.annotated(place) if masks is not None else frozenset()

    return ConceptMasks(
        names=[name for name, _ in joined],
        categories=[kind for _, kind in joined],
        load=load,
        annotated=annotated,
        version="|".join(masks.version for masks in known),
    )
