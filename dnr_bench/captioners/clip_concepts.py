"""Captions without a captioning model: the nearest concept of a set in CLIP's eyes (DnD 4.4.1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dnr_bench.data.images import View
from dnr_bench.infra.digests import fingerprint_of
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.on_demand import OnDemand
from dnr_bench.infra.shipped import embedded_path
from dnr_bench.infra.text_files import read_text
from dnr_bench.protocols import ImageTextEncoder
from dnr_bench.stages.lazy import Lazy


class ClipConcepts:
    """The `top` concepts of a file (one per line) whose texts are nearest to a view, joined by commas.

    `template` is what CLIP compares a concept in, e.g. "a photo of {concept}".
    """

    def __init__(self, encoder: ImageTextEncoder, concepts: str, top: int, template: str) -> None:
        self.encoder, self.top = encoder, top
        self.concepts = read_concepts(concepts)
        if not 1 <= top <= len(self.concepts):
            raise UsageError(f"top={top} must lie in 1..{len(self.concepts)}, the number of concepts")
        texts = in_template(self.concepts, template)
        self._vectors = OnDemand(lambda: encoder.embed_texts(texts))
        self.fingerprint = fingerprint_of(
            "clip_concepts",
            {
                "encoder": encoder.fingerprint,
                "concepts": self.concepts,
                "template": template,
                "top": top,
            },
        )

    def caption(self, views: Sequence[View]) -> list[str]:
        """One caption per view, in order."""
        if not views:
            return []
        images = Lazy(len(views), lambda place: views[place].pixels)
        cosines = self.encoder.embed_images(images) @ self._vectors().T
        nearest = np.argsort(-cosines, axis=1, kind="stable")[:, : self.top]
        return [", ".join(self.concepts[index] for index in row) for row in nearest]


def in_template(concepts: Sequence[str], template: str) -> list[str]:
    """Each concept in a template; one without {concept} raises `UsageError`."""
    if "{concept}" not in template:
        raise UsageError(f"template={template!r} must contain {{concept}}")
    return [template.replace("{concept}", concept) for concept in concepts]


def read_concepts(name: str) -> list[str]:
    """The concepts of a file, one per line; empty lines and repetitions are passed over."""
    lines = read_text(embedded_path(name), "concepts").splitlines()
    found = list(dict.fromkeys(" ".join(line.split()) for line in lines if line.strip()))
    if not found:
        raise UsageError(f"concepts={name!r} holds no concept")
    return found
