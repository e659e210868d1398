"""Presence as CLIP sees it: a sigmoid of the cosine of image and concept (Linear Explanations, section 3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import expit

from dnr_bench.captioners.clip_concepts import in_template, read_concepts
from dnr_bench.data.images import ProbeSet, VectorsOf
from dnr_bench.infra.digests import Key, fingerprint_of
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.source import code_of
from dnr_bench.infra.store import Store
from dnr_bench.presences.captions import says
from dnr_bench.protocols import ImageTextEncoder, Probe, judged_by
from dnr_bench.stages.caption_contrast import CaptionContrast
from dnr_bench.stages.embeddings import embed_texts, probe_embeddings

_CHUNK = 4096
#: So many pairs of an image and a concept are looked at to fit two numbers.
_MOST_PAIRS = 1_000_000


class ClipPresence:
    """sigmoid(a (cosine + b)).

    Args:
        encoder: the CLIP.
        concepts: a file of one concept per line, or an embedded one.
        template: the phrase in which CLIP reads a concept.
        a, b: steepness and shift; None: those that a SigLIP was trained with, and for any other CLIP those
            that tell best which of `images` have the words of a concept in their captions.
        images: what a and b are fitted on, as they are without blur.
        contrast: tells which words of captions count.
        seed: of `images`.
        store: keeps vectors, and a and b.

    Raises:
        UsageError: one of a and b is given without the other.
    """

    def __init__(
        self,
        encoder: ImageTextEncoder,
        concepts: str,
        template: str,
        a: float | None,
        b: float | None,
        images: Probe,
        contrast: CaptionContrast,
        seed: int,
        store: Store,
    ) -> None:
        if (a is None) != (b is None):
            raise UsageError(f"a={a} and b={b}: give both, or neither, and they are fitted")
        if a is not None and a <= 0:
            raise UsageError(f"a={a} must be above 0: a higher cosine means that a concept is there")
        self.encoder, self.template, self.store = encoder, template, store
        self.known = read_concepts(concepts)
        in_template(self.known[:1], template)
        self.given = None if a is None or b is None else (float(a), float(b))
        self.images, self.contrast, self.seed = images, contrast, seed
        self.judge = judged_by(encoder)

    def check(self, images: ProbeSet) -> None:
        """a and b must be known, or there must be words to fit them on."""
        if not self.given and not self._learned:
            self._words()

    def key(self, images: ProbeSet) -> Key:
        """The model, the concepts and the sigmoid."""
        settings = {"encoder": self.encoder.fingerprint, "template": self.template, "concepts": self.known}
        return {"presence": fingerprint_of("clip", {**settings, "sigmoid": list(self.sigmoid)})}

    def concepts(self, images: ProbeSet) -> Sequence[str]:
        """Those of the file."""
        return self.known

    def chunks(
        self, images: ProbeSet, vectors: VectorsOf, concepts: Sequence[str]
    ) -> Iterator[Float[np.ndarray, "images_of_chunk concepts"]]:
        """The presence of each concept, a few thousand images at a time."""
        a, b = self.sigmoid
        texts, found = self._texts(concepts), vectors()
        for first in range(0, len(found), _CHUNK):
            yield expit(a * (found[first : first + _CHUNK] @ texts.T + b))

    @cached_property
    def sigmoid(self) -> tuple[float, float]:
        """a and b."""
        return self.given or self._learned or self._fitted()

    @cached_property
    def _learned(self) -> tuple[float, float] | None:
        """Those that the model was trained with, noted, so that it need not be loaded to tell."""
        learned = getattr(self.encoder, "sigmoid", None)
        if learned is None:
            return None
        key = {"code": code_of(__name__, self.encoder), "encoder": self.encoder.fingerprint}
        (found,) = self.store.fill("presence", [key], lambda _: [list(learned() or ())])
        return (float(found[0]), float(found[1])) if found else None

    def _texts(self, concepts: Sequence[str]) -> Float[np.ndarray, "concepts dim"]:
        return embed_texts(self.store, self.encoder, in_template(concepts, self.template))

    def _words(self) -> tuple[ProbeSet, Sequence[str]]:
        images = self.images.load(self.seed)
        if images.words is None:
            raise UsageError(
                f"presence.a and presence.b of this CLIP are unknown, and {images.name} has neither captions"
                " nor classes to fit them on: give both, choose a SigLIP, which brings its own, or"
                " presence=masks"
            )
        return images, images.words

    def _fitted(self) -> tuple[float, float]:
        images, words = self._words()
        key: Key = {
            "code": code_of(__name__, self.encoder, images.images),
            "encoder": self.encoder.fingerprint,
            "template": self.template,
            "concepts": self.known,
            "images": images.digest,
            "words": fingerprint_of("words", {"words": list(words), "contrast": self.contrast.fingerprint}),
        }
        (found,) = self.store.fill("presence", [key], lambda _: [list(self._fit(images, words))])
        return float(found[0]), float(found[1])

    def _fit(self, images: ProbeSet, words: Sequence[str]) -> tuple[float, float]:
        step = max(len(words) * len(self.known) // _MOST_PAIRS, 1)
        present = says(words[::step], self.known, self.contrast.wording)
        telling = present.any(axis=0) & ~present.all(axis=0)
        a = b = 0.0
        if telling.any():
            texts = self._texts([self.known[place] for place in np.flatnonzero(telling)])
            vectors = probe_embeddings(self.store, self.encoder, images, dim=texts.shape[1])[::step]
            a, b = fit_sigmoid(vectors @ texts.T, present[:, telling])
        if a <= 0:
            raise UsageError(
                "presence.a and presence.b cannot be fitted: no concept of the file is named by what"
                f" {images.name} says of some of its images, or this CLIP sees it elsewhere; give both"
            )
        return a, b


def fit_sigmoid(
    cosines: Float[np.ndarray, "images concepts"], present: Bool[np.ndarray, "images concepts"]
) -> tuple[float, float]:
    """a and b of the sigmoid that is likeliest to have given this presence."""
    from sklearn.linear_model import LogisticRegression

    found = LogisticRegression(C=1e6, max_iter=1000).fit(cosines.reshape(-1, 1) * 10, present.ravel())
    a = float(found.coef_[0, 0]) * 10
    return a, float(found.intercept_[0]) / a if a else 0.0
