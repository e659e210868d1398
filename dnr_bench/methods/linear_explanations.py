"""Linear Explanations (Oikarinen and Weng 2024): a neuron as a weighted sum of concepts that images show.

Everything is computed from moments (sums of products) of concepts and neurons over training and validation
images, so that memory does not grow with the number of images, and all neurons share one pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from dnr_bench.data.explanation import Explanation, ScoredCandidate
from dnr_bench.data.neuron import Layer, Neuron
from dnr_bench.infra.digests import Key
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.ranges import check_range
from dnr_bench.infra.source import code_of
from dnr_bench.methods.labeling import DEAD
from dnr_bench.protocols import Presence
from dnr_bench.session import Session
from dnr_bench.statistics.moments import Moments, elastic_net, fitted, moment_correlation

NO_CONCEPT = "no concept raises its activation on validation images"
#: A concept is rated by its presence in so many images that show it most.
_TOP = 5


class LinearExplanations:
    """The labels of a neuron are the concepts of the sum: those that raise it first, by their share in it.

    Args:
        presence: tells which images show a concept.
        min_presence: a concept is left out where its mean presence in the five images that show it most is
            lower.
        min_deviation: a concept is left out whose presence deviates less.
        penalty: lambda of the elastic net that chooses the concepts to look at.
        lasso_share: alpha, the share of the absolute (sparse) part of the penalty.
        min_gain: the sum grows while a further concept raises the correlation on validation images so much.
        max_concepts: at most so many concepts.
        validation: the share of the probing images that the sum is not fitted on.

    Raises:
        UsageError: a setting is out of range.
    """

    def __init__(
        self,
        presence: Presence,
        min_presence: float,
        min_deviation: float,
        penalty: float,
        lasso_share: float,
        min_gain: float,
        max_concepts: int,
        validation: float,
    ) -> None:
        check_range(0, 1, min_presence=min_presence, min_deviation=min_deviation, lasso_share=lasso_share)
        check_range(0, 1, min_gain=min_gain)
        check_range(1, 1000, max_concepts=max_concepts)
        if penalty <= 0:
            raise UsageError(f"penalty={penalty} must be above 0")
        if not 0 < validation < 1:
            raise UsageError(f"validation={validation} must lie between 0 and 1")
        self.presence, self.min_presence, self.min_deviation = presence, min_presence, min_deviation
        self.penalty, self.lasso_share, self.min_gain = penalty, lasso_share, min_gain
        self.max_concepts, self.validation = max_concepts, validation

    def check(self, neurons: Sequence[Neuron], layers: Sequence[Layer]) -> None:
        """Every neuron can be described."""

    def check_images(self, session: Session) -> None:
        """Raises `UsageError` for images of which nothing tells what they show, or fewer than two."""
        self.presence.check(session.probe)
        if len(session.probe.images) < 2:
            raise UsageError(
                "method=linear_explanations fits on some probing images and checks on others: two at least"
            )

    def explain(self, neurons: Sequence[Neuron], session: Session) -> list[Explanation]:
        """One explanation per neuron, in order; scores are weights: standard deviations per presence."""
        sums = self._sums(neurons, session)
        exemplars = session.exemplars(neurons)
        found = []
        for neuron in neurons:
            concepts, weights = sums[neuron]
            raised = any(weight > 0 for weight in weights)
            reason = DEAD if neuron not in exemplars else None if raised else NO_CONCEPT
            found.append(
                Explanation(
                    neuron,
                    tuple(ScoredCandidate(c, "method", w) for c, w in zip(concepts, weights, strict=True)),
                    labels=concepts if raised else (),
                    weights=weights if raised else (),
                    unscored=reason,
                    exemplars=exemplars.get(neuron),
                )
            )
        return found

    def _sums(
        self, neurons: Sequence[Neuron], session: Session
    ) -> dict[Neuron, tuple[tuple[str, ...], tuple[float, ...]]]:
        """The concepts and weights of each neuron's sum; of each layer all neurons are fitted together."""
        code = code_of(__name__, self.presence, session.probe.images)
        settings = [
            self.min_presence, self.min_deviation, self.penalty, self.lasso_share, self.min_gain,
            self.max_concepts, self.validation, session.seed,
        ]  # fmt: skip
        shown = self.presence.key(session.probe)
        keys: list[Key] = [
            {
                **shown,
                "code": code,
                "images": session.probe.digest,
                "activations": session.activations(neuron.layer).digest,
                "unit": neuron.unit,
                "settings": settings,
            }
            for neuron in neurons
        ]

        def compute(missing: list[int]) -> Iterator[list[list[object]]]:
            found = self._fitted([neurons[i] for i in missing], session)
            return ([list(concepts), list(weights)] for concepts, weights in found)

        # all at once: each call takes two passes over the images
        stored = session.store.fill("linear_explanations", keys, compute, batch=max(len(keys), 1))
        return {
            neuron: (tuple(concepts), tuple(float(w) for w in weights))
            for neuron, (concepts, weights) in zip(neurons, stored, strict=True)
        }

    def _fitted(
        self, neurons: Sequence[Neuron], session: Session
    ) -> Iterator[tuple[tuple[str, ...], tuple[float, ...]]]:
        concepts = self._clear_concepts(session)
        if not concepts:
            yield from [((), ())] * len(neurons)
            return
        train, validation = self._moments(concepts, neurons, session)
        chosen = elastic_net(train, self.penalty, self.lasso_share)
        for column in range(len(neurons)):
            looked_at = np.flatnonzero(chosen[:, column])
            places, weights = greedy_sum(
                train, validation, column, looked_at, self.min_gain, self.max_concepts
            )
            plain = weights / train.concept_deviations[places]
            order = np.argsort(-weights, kind="stable")
            yield tuple(concepts[places[i]] for i in order), tuple(float(plain[i]) for i in order)

    def _clear_concepts(self, session: Session) -> list[str]:
        """The concepts that some images show clearly, and not all alike."""
        concepts = list(self.presence.concepts(session.probe))
        highest = np.full((0, len(concepts)), -np.inf)
        total, squares, n = np.zeros(len(concepts)), np.zeros(len(concepts)), 0
        for chunk in self.presence.chunks(session.probe, session.probe_vectors, concepts):
            highest = -np.sort(-np.concatenate([highest, chunk]), axis=0)[:_TOP]
            total, squares, n = total + chunk.sum(axis=0), squares + (chunk**2).sum(axis=0), n + len(chunk)
        deviation = np.sqrt(np.maximum(squares / n - (total / n) ** 2, 0))
        clear = (highest.mean(axis=0) >= self.min_presence) & (deviation >= self.min_deviation)
        return [concept for concept, is_clear in zip(concepts, clear, strict=True) if is_clear]

    def _moments(
        self, concepts: Sequence[str], neurons: Sequence[Neuron], session: Session
    ) -> tuple[Moments, Moments]:
        """Of training and of validation images."""
        is_validation = validation_places(len(session.probe.images), self.validation, session.seed)
        layers = list(dict.fromkeys(neuron.layer for neuron in neurons))
        columns = {layer: [n.unit for n in neurons if n.layer == layer] for layer in layers}
        order = [n for layer in layers for n in neurons if n.layer == layer]
        back = [order.index(neuron) for neuron in neurons]
        both = Moments(), Moments()
        first = 0
        for chunk in self.presence.chunks(session.probe, session.probe_vectors, concepts):
            rows = slice(first, first + len(chunk))
            first += len(chunk)
            values = np.concatenate(
                [session.activations(layer).values[rows][:, columns[layer]] for layer in layers], axis=1
            )[:, back]
            for moments, chosen in zip(both, (~is_validation[rows], is_validation[rows]), strict=True):
                moments.add(chunk[chosen], values[chosen])
        return both


def validation_places(n: int, share: float, seed: int) -> Bool[np.ndarray, " images"]:
    """Which of `n` images are for validation: the nearest number to the share, but some, and not all."""
    chosen = min(max(round(share * n), 1), n - 1)
    found = np.zeros(n, bool)
    found[np.random.default_rng([seed, 61]).permutation(n)[:chosen]] = True
    return found


@dataclass(frozen=True)
class _Sum:
    places: list[int]
    weights: Float[np.ndarray, " concepts"]
    correlation: float


def greedy_sum(
    train: Moments,
    validation: Moments,
    column: int,
    looked_at: Int[np.ndarray, " concepts"],
    min_gain: float,
    max_concepts: int,
) -> tuple[list[int], Float[np.ndarray, " chosen"]]:
    """The concepts and least-squares weights of the best sum for one neuron.

    Each step adds the concept with which the sum, fitted on training images, correlates most with the neuron
    on validation images; it ends where that gains less than `min_gain`.

    Args:
        train, validation: moments of all concepts and neurons.
        column: the neuron's.
        looked_at: the concepts that may be added.
    """
    best = _Sum([], np.empty(0), 0.0)
    while len(best.places) < max_concepts:
        grown = [
            _Sum(places, weights, moment_correlation(validation, train, places, weights, column))
            for place in looked_at
            if place not in best.places
            for places in [[*best.places, int(place)]]
            for weights in [fitted(train, places, column)]
        ]
        found = max(grown, key=lambda one: one.correlation, default=None)
        if found is None or not found.correlation >= best.correlation + min_gain:
            break
        best = found
    return best.places, best.weights
