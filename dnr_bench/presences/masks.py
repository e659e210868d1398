"""Presence as masks of concepts say it, as in Broden."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float

from dnr_bench.data.images import ConceptMasks, ProbeSet, VectorsOf
from dnr_bench.infra.digests import Key, fingerprint_of
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.ranges import check_range

_CHUNK = 256


class MaskPresence:
    """1 where a concept covers more than the share `min_area` of an image, else 0."""

    def __init__(self, min_area: float) -> None:
        check_range(0, 1, min_area=min_area)
        self.min_area = min_area
        self.judge = "masks of the images"

    def check(self, images: ProbeSet) -> None:
        """Images must have masks of concepts."""
        _masks(images)

    def key(self, images: ProbeSet) -> Key:
        """Their masks, and how much of an image counts."""
        masks = _masks(images)
        found = {"masks": masks.version, "names": list(masks.names), "min_area": self.min_area}
        return {"presence": fingerprint_of("masks", found)}

    def concepts(self, images: ProbeSet) -> Sequence[str]:
        """All that the set has masks of."""
        return list(_masks(images).names)

    def chunks(
        self, images: ProbeSet, vectors: VectorsOf, concepts: Sequence[str]
    ) -> Iterator[Float[np.ndarray, "images_of_chunk concepts"]]:
        """The presence of each concept, a few hundred images at a time; of an unknown one 0."""
        masks = _masks(images)
        column = {name: place for place, name in enumerate(concepts)}
        for first in range(0, len(images.images), _CHUNK):
            rows = range(first, min(first + _CHUNK, len(images.images)))
            found = np.zeros((len(rows), len(concepts)))
            for row, index in enumerate(rows):
                numbers, shown = masks.load(index)
                for number, mask in zip(numbers, shown, strict=True):
                    place = column.get(masks.names[number])
                    if place is not None:
                        found[row, place] = mask.mean() > self.min_area
            yield found


def _masks(images: ProbeSet) -> ConceptMasks:
    if images.concepts is None:
        raise UsageError(
            f"presence=masks needs masks of concepts, and {images.name} has none: choose probe=broden, or"
            " shapes"
        )
    return images.concepts
