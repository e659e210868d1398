"""Presence as captions say it: a concept is there where all its words are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import scipy
from jaxtyping import Bool, Float

from dnr_bench.captioners.clip_concepts import read_concepts
from dnr_bench.data.images import ProbeSet, VectorsOf
from dnr_bench.infra.digests import Key, fingerprint_of
from dnr_bench.infra.errors import UsageError
from dnr_bench.stages.caption_contrast import CaptionContrast
from dnr_bench.statistics.wording import Wording

_CHUNK = 4096


class CaptionPresence:
    """1 where the caption of an image, or the name of its class, has all words of a concept, else 0.

    concepts: a file of one concept per line, or an embedded one. contrast: tells which words count.
    """

    def __init__(self, concepts: str, contrast: CaptionContrast) -> None:
        self.known, self.contrast, self.wording = read_concepts(concepts), contrast, contrast.wording
        refuse_negations(self.known, self.wording)
        self.judge = "captions of the images"

    def check(self, images: ProbeSet) -> None:
        """Images must have captions or classes."""
        _words(images)

    def key(self, images: ProbeSet) -> Key:
        """Their concepts, captions and what tells which words count."""
        words = {"concepts": self.known, "words": list(_words(images))}
        return {"presence": fingerprint_of("captions", {**words, "contrast": self.contrast.fingerprint})}

    def concepts(self, images: ProbeSet) -> Sequence[str]:
        """Those of the file."""
        return self.known

    def chunks(
        self, images: ProbeSet, vectors: VectorsOf, concepts: Sequence[str]
    ) -> Iterator[Float[np.ndarray, "images_of_chunk concepts"]]:
        """The presence of each concept, a few thousand images at a time."""
        words = _words(images)
        for first in range(0, len(words), _CHUNK):
            yield says(words[first : first + _CHUNK], concepts, self.wording).astype(float)


def _words(images: ProbeSet) -> Sequence[str]:
    if images.words is None:
        raise UsageError(
            f"presence=captions reads what a data set says of its images, and {images.name} says nothing:"
            " give probe.captions=FILE or probe.labels=folders, or choose presence=clip"
        )
    return images.words


def refuse_negations(concepts: Sequence[str], wording: Wording) -> None:
    """Raises `UsageError` for concepts like "circle but not red": whether words are there does not tell."""
    if wrong := [concept for concept in concepts if wording.rules_out(concept)]:
        raise UsageError(
            f"concepts: {wrong[0]!r} rules something out, which the words of captions cannot show; leave it"
            " out (method=invert puts such formulas together itself)"
        )


def says(
    captions: Sequence[str], concepts: Sequence[str], wording: Wording
) -> Bool[np.ndarray, "captions concepts"]:
    """Which captions have all words of a concept, whatever their form; of "A or B" those of one side."""
    sides = [(column, set(s)) for column, c in enumerate(concepts) for s in wording.alternatives(c) if s]
    place: dict[str, int] = {}
    for _, terms in sides:
        for term in terms:
            place.setdefault(term, len(place))
    heard = [[place[t] for t in wording.terms(caption) if t in place] for caption in captions]
    said = _incidence(heard, len(place))
    asked = _incidence([[place[term] for term in terms] for _, terms in sides], len(place))
    complete = (said @ asked.T).toarray() == [len(terms) for _, terms in sides]
    found = np.zeros((len(captions), len(concepts)), bool)
    for row, (column, _) in enumerate(sides):
        found[:, column] |= complete[:, row]
    return found


def _incidence(rows: Sequence[Sequence[int]], columns: int) -> scipy.sparse.csr_matrix:
    places = [place for row in rows for place in row]
    ends = np.cumsum([0, *(len(row) for row in rows)])
    shape = len(rows), max(columns, 1)
    return scipy.sparse.csr_matrix((np.ones(len(places), np.int32), places, ends), shape=shape)
