"""CLIP-Dissect (Oikarinen and Weng 2023): the concept of a set that CLIP sees where a neuron fires."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from dnr_bench.captioners.clip_concepts import in_template, read_concepts
from dnr_bench.data.explanation import Explanation, ScoredCandidate
from dnr_bench.data.neuron import Layer, Neuron
from dnr_bench.infra.digests import Key
from dnr_bench.infra.ranges import check_range
from dnr_bench.infra.source import code_of
from dnr_bench.methods.labeling import LabelSettings, label_each
from dnr_bench.methods.similarities import SIMILARITIES, Similarity
from dnr_bench.session import Session


class ClipDissect:
    """`concepts`: a file of one concept per line, or an embedded one; `template` is what CLIP reads it in.

    top: concepts that are kept of each neuron. chunk: concepts that are compared at a time; memory grows with
    it and the number of images. Similarities look at all units of a layer, also where few are described.
    """

    def __init__(
        self,
        concepts: str,
        similarity: Similarity,
        template: str,
        top: int,
        chunk: int,
        labels: LabelSettings,
    ) -> None:
        check_range(1, 1_000_000, top=top, chunk=chunk)
        self.concepts, self.similarity, self.template = read_concepts(concepts), similarity, template
        self.prompts = in_template(self.concepts, template)
        self.top, self.chunk, self.labels = min(top, len(self.concepts)), chunk, labels

    def check(self, neurons: Sequence[Neuron], layers: Sequence[Layer]) -> None:
        """Every neuron can be described."""

    def explain(self, neurons: Sequence[Neuron], session: Session) -> list[Explanation]:
        """One explanation per neuron, in order; scores are similarities."""
        tables = {layer: self._ranked(layer, session) for layer in dict.fromkeys(n.layer for n in neurons)}

        def concepts_of(neuron: Neuron) -> tuple[list[ScoredCandidate], None]:
            order, scores = (table[neuron.unit] for table in tables[neuron.layer])
            pairs = zip(order.tolist(), scores.tolist(), strict=True)
            found = [ScoredCandidate(self.concepts[place], "method", score) for place, score in pairs]
            return found, None

        return label_each(neurons, concepts_of, self.labels, session)

    def _ranked(self, layer: str, session: Session) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of each unit's best concepts and their similarities, best first."""
        activations = session.activations(layer)
        seed = session.seed if self.similarity == "rank_reorder" else 0  # the others have no chance
        key: Key = {
            "code": code_of(__name__, session.encoder, session.probe.images),
            "activations": activations.digest,
            "encoder": session.encoder.fingerprint,
            "concepts": self.concepts,
            "template": self.template,
            "similarity": self.similarity,
            "top": self.top,
            "seed": seed,
        }

        def compute(_: list[int]) -> Iterator[dict[str, np.ndarray]]:
            texts, images = session.embed_texts(self.prompts), session.probe_vectors()

            def chunks() -> Iterator[np.ndarray]:
                for first in range(0, len(texts), self.chunk):
                    yield images @ texts[first : first + self.chunk].T

            options = {"seed": seed} if self.similarity == "rank_reorder" else {}
            found = SIMILARITIES[self.similarity](np.asarray(activations.values), chunks, **options)
            order = np.argsort(-found, axis=1, kind="stable")[:, : self.top]
            yield {"order": order, "scores": np.take_along_axis(found, order, axis=1)}

        (entry,) = session.store.fill("clip_dissect", [key], compute)
        return entry["order"], entry["scores"]
