"""INVERT (Bykov et al. 2023): the Boolean formula of concepts that a neuron's activation detects best."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool

from dnr_bench.data.explanation import Explanation, ScoredCandidate
from dnr_bench.data.neuron import Layer, Neuron
from dnr_bench.infra.digests import Key
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.on_demand import OnDemand
from dnr_bench.infra.ranges import check_range
from dnr_bench.infra.source import code_of
from dnr_bench.methods.labeling import LabelSettings, label_each
from dnr_bench.protocols import Presence
from dnr_bench.session import Session
from dnr_bench.statistics.formulas import ConceptChunks, Detected, SearchSettings, n_searched, p_value, search

#: What formulas are put together with.
_COMBINES = re.compile(r"\b(?:and|or|but|not)\b", re.IGNORECASE)
#: Units that are searched for together: their ranks are in memory.
_UNITS = 256


class Invert:
    """The label of a neuron is a formula in words: "red and circle or blue but not square".

    Args:
        presence: tells which images show a concept; what is present by half counts as there.
        length: concepts in a formula, at most.
        beam: formulas that are kept of each length.
        least, most: shares of the images that a formula may be true for.
        min_gain: a longer formula must have an AUROC that is higher by more than this.
        max_p: a neuron gets no label where the P value of the best formula (Mann-Whitney, times the number of
            formulas that were looked at) is higher.
        top: formulas that are kept of each neuron.
        labels: how many labels a neuron gets.

    Raises:
        UsageError: a setting is out of range.
    """

    def __init__(
        self,
        presence: Presence,
        length: int,
        beam: int,
        least: float,
        most: float,
        min_gain: float,
        max_p: float,
        top: int,
        labels: LabelSettings,
    ) -> None:
        check_range(1, 20, length=length)
        check_range(1, 1000, beam=beam, top=top)
        check_range(0, 1, least=least, most=most, min_gain=min_gain, max_p=max_p)
        if least >= most:
            raise UsageError(f"least={least} must be below most={most}")
        self.presence, self.max_p, self.top, self.labels = presence, max_p, top, labels
        self.settings = SearchSettings(length, beam, least, most, min_gain)

    def check(self, neurons: Sequence[Neuron], layers: Sequence[Layer]) -> None:
        """Every neuron can be described."""

    def check_images(self, session: Session) -> None:
        """Raises `UsageError` for images of which nothing tells what they show."""
        self.presence.check(session.probe)

    def explain(self, neurons: Sequence[Neuron], session: Session) -> list[Explanation]:
        """One explanation per neuron, in order; scores are AUROCs."""
        found = dict(zip(neurons, self._found(neurons, session), strict=True))

        def concepts_of(neuron: Neuron) -> tuple[list[ScoredCandidate], str | None]:
            formulas, p = found[neuron]
            if not formulas:
                return [], "no concept is in enough images"
            kept = [ScoredCandidate(text, "method", auc) for text, auc in formulas]
            weak = f"no formula beats chance: P = {p:.2g} after correction"
            return kept, weak if p > self.max_p else None

        return label_each(neurons, concepts_of, self.labels, session)

    def _found(
        self, neurons: Sequence[Neuron], session: Session
    ) -> list[tuple[list[tuple[str, float]], float]]:
        """The best formulas of each neuron with their AUROCs, and the corrected P of the first."""
        code, shown = code_of(__name__, self.presence, session.probe.images), self.presence.key(session.probe)
        keys: list[Key] = [
            {
                **shown,
                "code": code,
                "images": session.probe.digest,
                "activations": session.activations(neuron.layer).digest,
                "unit": neuron.unit,
                "settings": [*vars(self.settings).values(), self.top],
            }
            for neuron in neurons
        ]
        present = OnDemand(lambda: self._present(session))  # for all blocks of neurons

        def compute(missing: list[int]) -> Iterator[list[object]]:
            concepts, packed = present()

            def chunks() -> Iterator[Bool[np.ndarray, "images concepts"]]:
                for part in packed:
                    yield np.unpackbits(part, axis=1, count=len(concepts)).astype(bool)

            block = [neurons[i] for i in missing]
            values = np.stack([session.activations(n.layer).values[:, n.unit] for n in block], axis=1)
            for column, formulas in enumerate(search(chunks, values, self.settings)):
                yield self._entry(formulas, values[:, column], concepts, chunks)

        stored = session.store.fill("invert", keys, compute, batch=_UNITS)
        return [([(text, float(auc)) for text, auc in formulas], float(p)) for formulas, p in stored]

    def _entry(
        self, formulas: Sequence[Detected], values: np.ndarray, concepts: Sequence[str], chunks: ConceptChunks
    ) -> list[object]:
        if not formulas:
            return [[], 1.0]
        holds = np.concatenate([formulas[0].formula.holds(present) for present in chunks()])
        p = p_value(values, holds, n_searched(len(concepts), self.settings))
        kept = [[one.formula.said(concepts), one.auc] for one in formulas[: self.top]]
        return [kept, p]

    def _present(self, session: Session) -> tuple[list[str], list[np.ndarray]]:
        """The concepts, and which images show them: eight to a byte, so that many fit in memory."""
        known = list(self.presence.concepts(session.probe))
        concepts = [concept for concept in known if not _COMBINES.search(concept)]
        if len(concepts) < len(known):
            session.notices.warn(
                f"method=invert leaves out {len(known) - len(concepts)} concepts: they hold and, or, but or"
                " not, with which formulas put concepts together"
            )
        chunks = self.presence.chunks(session.probe, session.probe_vectors, concepts)
        return concepts, [np.packbits(chunk >= 0.5, axis=1) for chunk in chunks]
