"""The loop of LINE (2026): propose a concept, draw it, score it, and tell the proposer how it went."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from dnr_bench.captioners.clip_concepts import read_concepts
from dnr_bench.data.evidence import Candidate
from dnr_bench.data.explanation import RefinementRecord
from dnr_bench.data.neuron import Neuron
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.ranges import check_range
from dnr_bench.methods.describe_and_dissect.candidates import Pool, best_text, joined
from dnr_bench.methods.describe_and_dissect.concepts import ConceptProposer
from dnr_bench.methods.describe_and_dissect.refinement import LAST_ITERATION, NO_NEW_CONCEPT
from dnr_bench.protocols import Metered, Scorer
from dnr_bench.session import Session, blocks
from dnr_bench.statistics.detection import cosy_auc, cosy_mad
from dnr_bench.summarizers.from_history import History

_MEASURES = {"auc": cosy_auc, "mad": cosy_mad}


@runtime_checkable
class HistoryProposer(Protocol):
    """Proposes concepts from how well others did."""

    def next_concepts(self, histories: Sequence[History], n: int, seed: int) -> list[list[str]]:
        """For each neuron at most `n` distinct concepts; what was tried before is left out by the caller."""


class Line:
    """The answer is the concept of the history whose images stand out most from those of control concepts.

    Args:
        proposer: is told all concepts of a neuron with their scores, and says which to try next.
        iterations: how often it is asked.
        per_iteration: concepts that are tried each time.
        measure: auc, the share of pairs in which an image of the concept activates the neuron more than one
            of a control concept; or mad, by how many standard deviations of the latter.
        controls: a file of concepts, one per line, or an embedded one.
        n_controls: so many of them are drawn, by the seed; the same for all neurons.

    The scores take the place of those of the run's scorer, which ranks concepts before the first iteration.

    Raises:
        UsageError: a setting is out of range.
    """

    captions_drawings = False

    def __init__(
        self,
        proposer: HistoryProposer,
        iterations: int,
        per_iteration: int,
        measure: Literal["auc", "mad"],
        controls: str,
        n_controls: int,
    ) -> None:
        check_range(1, 1000, iterations=iterations, per_iteration=per_iteration)
        check_range(2, 100_000, n_controls=n_controls)
        self.proposer, self.iterations, self.per_iteration = proposer, iterations, per_iteration
        self.measure, self.controls, self.n_controls = _MEASURES[measure], read_concepts(controls), n_controls
        if len(self.controls) < n_controls:
            raise UsageError(
                f"n_controls={n_controls}, but controls={controls!r} has {len(self.controls)} concepts"
            )
        if isinstance(proposer, Metered):
            self.usage = proposer.usage

    def refine(
        self,
        pool: dict[Neuron, list[Candidate]],
        scores: dict[Neuron, Float[np.ndarray, " _"]],
        concepts: ConceptProposer,
        scorer: Scorer,
        session: Session,
        rated: Callable[[Pool], dict[Neuron, list[Candidate]]],
    ) -> dict[Neuron, RefinementRecord]:
        """Let each neuron's pool grow by what is proposed; `scores` become those of the loop."""
        controls = self._controls(session)
        first = {
            n: best_text(pool[n], of_neuron)
            for n, of_neuron in scores.items()
            if np.isfinite(of_neuron).any()
        }
        scores |= self._scores({n: [c.text for c in pool[n]] for n in pool}, controls, session)
        records = {
            neuron: RefinementRecord(answers=(answer,))
            for neuron, answer in first.items()
            if np.isfinite(scores[neuron]).any()  # a unit that is 0 on all controls has no deviation
        }
        for iteration in range(1, self.iterations + 1):
            active = [neuron for neuron, record in records.items() if record.stopped is None]
            histories = [_history(pool[neuron], scores[neuron]) for neuron in active]
            proposed = self.proposer.next_concepts(histories, self.per_iteration, session.seed + iteration)
            known = {neuron: len(pool[neuron]) for neuron in active}
            for neuron, texts in zip(active, proposed, strict=True):
                new = [Candidate(text, "refined", iteration) for text in texts]
                pool[neuron] = joined(pool[neuron], new)
            fresh = {n: [c.text for c in pool[n][known[n] :]] for n in active}
            for neuron, own in self._scores(fresh, controls, session).items():
                before = np.nanmax(scores[neuron])
                scores[neuron] = np.concatenate([scores[neuron], own])
                gain = float(np.nanmax(scores[neuron]) - before)
                records[neuron] = self._after(
                    records[neuron], gain, best_text(pool[neuron], scores[neuron]), iteration, len(own)
                )
        return records

    def _after(
        self, record: RefinementRecord, gain: float, answer: str, iteration: int, n_new: int
    ) -> RefinementRecord:
        """progress: by how much the best score rose."""
        stopped = LAST_ITERATION if iteration == self.iterations else None
        if not n_new:
            return replace(record, stopped=NO_NEW_CONCEPT, answers=(*record.answers, answer))
        return replace(
            record, progress=(*record.progress, gain), stopped=stopped, answers=(*record.answers, answer)
        )

    def _controls(self, session: Session) -> dict[str, Float[np.ndarray, "images units"]]:
        """The activations of all layers on images of the control concepts."""
        order = np.random.default_rng([session.seed, 67]).permutation(len(self.controls))
        chosen = [self.controls[i] for i in sorted(order[: self.n_controls])]
        found: dict[str, list[np.ndarray]] = {layer.name: [] for layer in session.layers}
        for rendering in session.draw(chosen):
            for layer, of_layer in found.items():
                of_layer.append(np.asarray(rendering.activations[layer]))
        return {layer: np.concatenate(of_layer) for layer, of_layer in found.items()}

    def _scores(
        self,
        texts: Mapping[Neuron, Sequence[str]],
        controls: Mapping[str, Float[np.ndarray, "images units"]],
        session: Session,
    ) -> dict[Neuron, Float[np.ndarray, " concepts"]]:
        """The measure of each neuron's concepts; NaN where a concept has no image."""
        return {
            neuron: own
            for block in blocks(list(texts))
            for neuron, own in self._of(block, texts, controls, session)
        }

    def _of(
        self,
        block: Sequence[Neuron],
        texts: Mapping[Neuron, Sequence[str]],
        controls: Mapping[str, Float[np.ndarray, "images units"]],
        session: Session,
    ) -> Iterator[tuple[Neuron, Float[np.ndarray, " concepts"]]]:
        drawn = {r.concept: r for r in session.draw([text for neuron in block for text in texts[neuron]])}
        for neuron in block:
            control = controls[neuron.layer][:, [neuron.unit]]
            images = [drawn[text].activations[neuron.layer][:, [neuron.unit]] for text in texts[neuron]]
            values = [float(self.measure(of_one, control)[0]) if len(of_one) else np.nan for of_one in images]
            yield neuron, np.asarray(values, float)


def _history(candidates: Sequence[Candidate], scores: Float[np.ndarray, " candidates"]) -> History:
    order = [int(i) for i in np.argsort(-scores, kind="stable") if np.isfinite(scores[i])]
    return [(candidates[i].text, float(scores[i])) for i in order]
