"""Several probing sets as one (DnD 5 probes with EuroSAT, ImageNet and Broden together)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TypeVar

import numpy as np

from dnr_bench.data.images import ConceptMasks, ProbeSet
from dnr_bench.infra.errors import UsageError
from dnr_bench.probes.lazy import Lazy
from dnr_bench.probes.subset import check_n_images, subset
from dnr_bench.protocols import Probe

T = TypeVar("T")


class UnionProbe:
    """The images of all `parts`, in order; an image that several have counts once.

    Captions, masks and classes are there where every part has them, masks of concepts where one has.
    n_images: so many of all, chosen by the seed; None: all.
    """

    def __init__(self, parts: Mapping[str, Probe], n_images: int | None) -> None:
        wrong = [name for name, part in parts.items() if not isinstance(part, Probe)]
        if not parts or wrong:
            raise UsageError(f"parts={list(parts)} must be one or more probing sets; {wrong} are none")
        check_n_images(n_images)
        self.parts, self.n_images = dict(parts), n_images

    def load(self, seed: int) -> ProbeSet:
        """The parts' images, each loaded by its part."""
        sets = [part.load(seed) for part in self.parts.values()]
        places = [(part, index) for part, found in enumerate(sets) for index in range(len(found.ids))]
        ids = [sets[part].ids[index] for part, index in places]
        first = {name: place for place, name in reversed(list(enumerate(ids)))}
        distinct = np.asarray(sorted(first.values()))
        chosen = distinct[subset(len(distinct), self.n_images, seed)]
        kept = [places[place] for place in chosen]

        captions = _of_all([found.captions for found in sets])
        classes = _of_all([found.classes for found in sets])
        masks = _of_all([found.masks for found in sets])
        images = [found.images for found in sets]
        return ProbeSet(
            name=f"{'+'.join(self.parts)}-{len(kept)}",
            ids=[ids[place] for place in chosen],
            images=Lazy(len(kept), lambda i: images[kept[i][0]][kept[i][1]]),
            captions=[captions[part][index] for part, index in kept] if captions else None,
            masks=Lazy(len(kept), lambda i: masks[kept[i][0]][kept[i][1]]) if masks else None,
            classes=[classes[part][index] for part, index in kept] if classes else None,
            concepts=_joined([found.concepts for found in sets], kept),
            skipped=[item for found in sets for item in found.skipped],
        )


def _of_all(fields: Sequence[Sequence[T] | None]) -> list[Sequence[T]] | None:
    found = [field for field in fields if field is not None]
    return found if len(found) == len(fields) else None


def _joined(parts: Sequence[ConceptMasks | None], kept: Sequence[tuple[int, int]]) -> ConceptMasks | None:
    """Concepts of all parts, those of the same name and category as one; other parts' images show none."""
    known = [part for part in parts if part is not None]
    if not known:
        return None
    every = [(name, kind) for part in known for name, kind in zip(part.names, part.categories, strict=True)]
    number = {concept: place for place, concept in enumerate(dict.fromkeys(every))}
    starts = [0, *accumulate(len(part.names) if part is not None else 0 for part in parts)]
    own = np.asarray([number[concept] for concept in every], np.int64)

    def load(index: int) -> tuple[np.ndarray, np.ndarray]:
        part, place = kept[index]
        masks = parts[part]
        if masks is None:
            return np.zeros(0, np.int64), np.zeros((0, 1, 1), bool)
        shown, found = masks.load(place)
        return own[starts[part] + shown], found

    def annotated(index: int) -> frozenset[str]:
        part, place = kept[index]
        masks = parts[part]
        return masks.annotated(place) if masks is not None else frozenset()

    return ConceptMasks(
        names=[name for name, _ in number],
        categories=[kind for _, kind in number],
        load=load,
        annotated=annotated,
        version="union-1|" + "|".join(part.version for part in known),
    )
