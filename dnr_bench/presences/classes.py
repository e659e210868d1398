"""Presence as the data set's own classes say it, and what these belong to (LE with labels)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from dnr_bench.data.images import ProbeSet, VectorsOf
from dnr_bench.infra.digests import Key, fingerprint_of
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.text_files import csv_rows, read_text

_CHUNK = 4096


class ClassPresence:
    """1 for the class of an image and for what that class belongs to, 0 for all others.

    superclasses: a CSV file with the columns class and superclass, a row for each pair; None: classes alone.
    """

    def __init__(self, superclasses: str | None) -> None:
        self.above = _above(superclasses) if superclasses is not None else {}
        self.judge = "classes of the images"

    def check(self, images: ProbeSet) -> None:
        """Images must have classes."""
        _classes(images)

    def key(self, images: ProbeSet) -> Key:
        """Their classes, and what is above these."""
        found = {"classes": list(_classes(images)), "superclasses": self.above}
        return {"presence": fingerprint_of("classes", found)}

    def concepts(self, images: ProbeSet) -> Sequence[str]:
        """The classes in the order in which they first come, then superclasses."""
        classes = list(dict.fromkeys(_classes(images)))
        return list(dict.fromkeys([*classes, *(s for c in classes for s in self.above.get(c, ()))]))

    def chunks(
        self, images: ProbeSet, vectors: VectorsOf, concepts: Sequence[str]
    ) -> Iterator[Float[np.ndarray, "images_of_chunk concepts"]]:
        """The presence of each concept, a few thousand images at a time; of an unknown one 0."""
        classes = _classes(images)
        names = list(dict.fromkeys(classes))
        table = np.asarray([[c == name or c in self.above.get(name, ()) for c in concepts] for name in names])
        place = {name: row for row, name in enumerate(names)}
        for first in range(0, len(classes), _CHUNK):
            yield table[[place[name] for name in classes[first : first + _CHUNK]]].astype(float)


def _classes(images: ProbeSet) -> Sequence[str]:
    if images.classes is None:
        raise UsageError(
            f"presence=classes needs the classes of images, and {images.name} has none: give"
            " probe.labels=folders (+probe.classes=[texture,shape] for probe=shapes), or choose presence=clip"
        )
    return images.classes


def _above(path: str) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    where = f"superclasses={path!r}"
    for line, cells in csv_rows(read_text(path, "superclasses"), ["class", "superclass"], where):
        if cells is None or not cells["class"] or not cells["superclass"]:
            raise UsageError(f"{where}, line {line}: needed are a class and its superclass")
        found.setdefault(cells["class"], []).append(cells["superclass"])
    return found
