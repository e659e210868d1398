"""The settings of a run at work: its store, its probing set, its pipeline, and what evaluators may use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dnr_bench.errors import UsageError
from dnr_bench.held_out import HeldOutImages
from dnr_bench.parts import (
    EvaluationContext,
    Evaluator,
    Generator,
    Metered,
    Probe,
    Retriever,
    TextEncoder,
)
from dnr_bench.pipeline import DescribeAndDissect, Method, Parts, Settings
from dnr_bench.probes.perturbed import Perturbation, perturbed
from dnr_bench.renderings import embed_texts, match_texts
from dnr_bench.store import Store
from dnr_bench.types import Explanation, Layer, Neuron, ProbeSet, Usage


@dataclass(frozen=True)
class RunConfig:
    """Everything that a run needs, built and checked."""

    method: Method
    parts: Parts
    settings: Settings
    probe: Probe
    perturbation: Perturbation
    layers: Sequence[Layer]
    neurons: Sequence[Neuron]
    evaluators: dict[str, Evaluator]
    store: Path
    resolved: dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """`probe` is what explains, blurred or not; `unchanged` the same images as they were."""

    config: RunConfig
    store: Store
    unchanged: ProbeSet
    probe: ProbeSet
    pipeline: DescribeAndDissect

    @classmethod
    def of(cls, config: RunConfig) -> Bench:
        """Load the probing set and set up the pipeline; nothing is computed yet."""
        store = Store(config.store)
        unchanged = config.probe.load(config.settings.seed)
        _check_retrieved(config.parts.generator, unchanged, config.settings.drawing.images_per_concept)
        probe = perturbed(unchanged, config.perturbation)
        pipeline = DescribeAndDissect(config.parts, config.settings, probe, config.layers, store)
        return cls(config, store, unchanged, probe, pipeline)

    def context(self, explanations: Sequence[Explanation]) -> EvaluationContext:
        """What the evaluators of these explanations may look at."""
        parts, pipeline = self.config.parts, self.pipeline
        context = EvaluationContext(
            explanations=explanations,
            target=parts.target,
            encoder=parts.encoder,
            seed=self.config.settings.seed,
            embed_texts=partial(_embed_texts, self.store, parts.encoder),
            match_texts=partial(match_texts, self.store),
            score_pools=pipeline.score_pools,
            score_pools_anew=None if parts.scorer.needs_probe else pipeline.score_pools_anew,
            activations=pipeline.activations,
            exemplar_vectors=pipeline.exemplar_vectors,
            held_out=HeldOutImages(
                self.store,
                parts.target,
                parts.encoder,
                pipeline.fresh_studio,
                self.config.layers,
                frozenset(self.unchanged.ids) | _retrieved(parts.generator),
            ),
            stages={name: replace(count) for name, count in self.store.counts.items()},
            usage={
                name: replace(used, calls=list(used.calls))
                for name, used in _usage_of(self._describing()).items()
            },
        )
        known = {neuron: text for neuron, text in self.truths(context).items() if text is not None}
        return replace(context, truth=known)

    def usage(self) -> dict[str, Usage]:
        """What each part that asks a chat model has asked so far."""
        judging = {f"evaluator.{name}": part for name, part in self.config.evaluators.items()}
        return _usage_of({**self._describing(), **judging})

    def _describing(self) -> dict[str, object]:
        return {"captioner": self.config.parts.captioner, "summarizer": self.config.parts.summarizer}

    def truths(self, context: EvaluationContext) -> dict[Neuron, str | None]:
        """What the run's evaluators know of neurons; None for those that detect nothing."""
        evaluators = self.config.evaluators.values()
        return {neuron: text for evaluator in evaluators for neuron, text in evaluator.truth(context).items()}


def _usage_of(parts: Mapping[str, object]) -> dict[str, Usage]:
    return {name: part.usage for name, part in parts.items() if isinstance(part, Metered)}


def _retrieved(generator: Generator) -> frozenset[str]:
    return generator.ids if isinstance(generator, Retriever) else frozenset()


def _check_retrieved(generator: Generator, probe: ProbeSet, images_per_concept: int) -> None:
    """What candidates are scored on must be others than the probing images, and enough."""
    if not isinstance(generator, Retriever):
        return
    if shared := len(generator.ids & set(probe.ids)):
        raise UsageError(
            f"{shared} images of the generator are images of the probing set, too: retrieval needs others"
        )
    if len(generator.ids) < 2 * images_per_concept:
        raise UsageError(
            f"generator=retrieval has {len(generator.ids)} images; images_per_concept={images_per_concept}"
            " needs twice as many, since evaluators look at others than those that chose a label"
        )


def _embed_texts(
    store: Store, default: TextEncoder, texts: Sequence[str], encoder: TextEncoder | None = None
) -> np.ndarray:
    return embed_texts(store, encoder or default, texts)
