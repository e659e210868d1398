"""One run: describe, evaluate, and gather everything into a `RunResult`; neither Hydra nor MLflow here."""

from __future__ import annotations

import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from dnr_bench.data.chat import Usage
from dnr_bench.data.explanation import Description, Explanation
from dnr_bench.data.neuron import Layer, Neuron
from dnr_bench.data.scorecard import Scorecard, Table
from dnr_bench.data.stages import StageCount
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.store import Store
from dnr_bench.protocols import Generator, ImageTextEncoder, Metered, Probe, Target
from dnr_bench.results.schema import (
    CallRecord,
    ChatUsage,
    MetricResult,
    NeuronResult,
    ProbeResult,
    RunResult,
    finite,
)
from dnr_bench.session import ChecksImages, Evaluator, Method, Repeating, Session
from dnr_bench.stages.concept_images import DrawingSettings
from dnr_bench.stages.exemplars import ExemplarSettings
from dnr_bench.statistics.controls import normalized
from dnr_bench.statistics.intervals import Estimate, estimate

_PACKAGES = (
    "dnr-bench", "torch", "torchvision", "transformers", "diffusers", "open_clip_torch", "mlflow",
    "hydra-core", "numpy", "scipy",
)  # fmt: skip
_NOTHING = "(nothing)"


@dataclass(frozen=True)
class RunConfig:
    """Everything that a run needs, built and checked.

    metered: the parts of the description that ask a chat model. resolved: the settings as plain values.
    """

    method: Method
    neurons: Sequence[Neuron]
    evaluators: Mapping[str, Evaluator]
    target: Target
    layers: Sequence[Layer]
    probe: Probe
    encoder: ImageTextEncoder
    generator: Generator | None
    exemplars: ExemplarSettings
    drawing: DrawingSettings
    seed: int
    store: Store
    metered: Mapping[str, Metered]
    resolved: Mapping[str, Any]

    def session(self) -> Session:
        """Load the probing set and open a session on it; nothing is computed yet."""
        return Session(
            target=self.target,
            layers=self.layers,
            probe=self.probe.load(self.seed),
            encoder=self.encoder,
            generator=self.generator,
            exemplars=self.exemplars,
            drawing=self.drawing,
            seed=self.seed,
            store=self.store,
        )


def run(config: RunConfig, session: Session | None = None) -> RunResult:
    """Describe the neurons that the config names and evaluate their labels.

    Args:
        config: what to do with which parts.
        session: one that was opened by `config.session()`, to look at its images afterwards.
    """
    start = time.perf_counter()
    session = session or config.session()
    check_images(config, session)
    session.store.counts = {}
    explanations = config.method.explain(config.neurons, session)
    truths = known_truths(config)
    description = Description(
        explanations=explanations,
        truth={neuron: text for neuron, text in truths.items() if text is not None},
        stages={name: replace(count) for name, count in session.store.counts.items()},
        usage={
            name: replace(part.usage, calls=list(part.usage.calls)) for name, part in config.metered.items()
        },
    )
    found, evaluation = _evaluated(config, description, session)
    cards = [item for item in found if isinstance(item, Scorecard)]
    judging = {f"evaluator.{n}": part for n, part in config.evaluators.items() if isinstance(part, Metered)}
    usage = {name: part.usage for name, part in {**config.metered, **judging}.items()}
    return RunResult(
        metrics={card.name: metric_result(card, config.seed) for card in cards},
        neurons=tuple(_neuron_results(explanations, cards, truths)),
        tables=tuple(_plain(item) for item in found if isinstance(item, Table)),
        curves=_curves(explanations),
        stages={**description.stages, "evaluation": evaluation},
        usage={name: ChatUsage(used.model, **_totals(used)) for name, used in usage.items()},
        probe=ProbeResult(
            name=session.probe.name,
            digest=session.probe.digest,
            images=len(session.probe.images),
            skipped=tuple(session.probe.skipped),
        ),
        config=config.resolved,
        versions=_versions(),
        seconds=time.perf_counter() - start,
        calls=tuple(CallRecord(part, call) for part, used in usage.items() for call in used.calls),
    )


def share(config: RunConfig, session: Session) -> None:
    """Do what a shard of the neurons takes, for what it leaves in the store.

    What evaluators say of a part of the neurons counts for nothing, so an evaluator that cannot judge them is
    left out, and so are questions that cost money.
    """
    with suppress(UsageError):
        check_images(config, session)
    explanations = config.method.explain(config.neurons, session)
    description = Description(explanations=explanations, truth={}, stages={}, usage={})
    for evaluator in config.evaluators.values():
        if not isinstance(evaluator, Metered | Repeating):
            with suppress(UsageError):
                evaluator.evaluate(description, session)


def check_images(config: RunConfig, session: Session) -> None:
    """Raises `UsageError`, before any work, for images that lack what somebody will ask of them."""
    if isinstance(config.method, ChecksImages):
        config.method.check_images(session)
    for evaluator in config.evaluators.values():
        evaluator.check_images(session)


def known_truths(config: RunConfig) -> dict[Neuron, str | None]:
    """The known truth of neurons, from the run's evaluators; None for those that detect nothing."""
    return {
        neuron: text
        for evaluator in config.evaluators.values()
        for neuron, text in evaluator.truth(config.neurons, config.target).items()
    }


def _evaluated(
    config: RunConfig, description: Description, session: Session
) -> tuple[list[Scorecard | Table], StageCount]:
    """The findings of all evaluators, and the time and items they took together."""
    start, before = time.perf_counter(), session.store.counts
    session.store.counts = {}
    found: list[Scorecard | Table] = []
    copies = _copies(description, session)
    for evaluator in config.evaluators.values():
        cards = evaluator.evaluate(description, session)
        copied = {card.name: card for card in evaluator.judged(copies, session)} if copies else {}
        found += [_held_against(card, copied.get(card.name)) for card in cards]
    counts = session.store.counts.values()
    session.store.counts = before
    hits, misses = sum(count.hits for count in counts), sum(count.misses for count in counts)
    return found, StageCount(time.perf_counter() - start, hits, misses)


def _copies(description: Description, session: Session) -> Description | None:
    """The description with captions of highest exemplars as labels; None where there are no captions."""
    words = session.probe.words
    with_captions = [
        replace(e, captions=(words[e.exemplars.items[0].index],))
        if words is not None and e.exemplars is not None and not any(e.captions)
        else e
        for e in description.explanations
    ]
    copies = [e.copied for e in with_captions]
    return replace(description, explanations=copies) if any(e.labels for e in copies) else None


def _held_against(item: Scorecard | Table, copy: Scorecard | None) -> Scorecard | Table:
    """A card with the control `copy`: the mean of copied captions over the items that the card scores."""
    if not isinstance(item, Scorecard) or copy is None:
        return item
    known = dict(zip(copy.items, copy.values, strict=True))
    scored = [
        known.get(name, np.nan) for name, value in zip(item.items, item.values, strict=True) if value == value
    ]
    mean = float(np.nanmean(scored)) if np.isfinite(scored).any() else np.nan
    return replace(item, controls={**item.controls, "copy": mean}) if np.isfinite(mean) else item


def metric_result(card: Scorecard, seed: int) -> MetricResult:
    """The metric of a scorecard: mean, interval, and what it is held against."""
    if card.item_kind == "run":
        found = Estimate(float(card.values[0]), np.nan, np.nan, 1)
    else:
        found = _bounded(estimate(card.values, card.clusters, seed, card.signed), card.unit)
    items = {item: float(value) for item, value in zip(card.items, card.values, strict=True)}
    return MetricResult(
        mean=found.mean,
        low=found.low,
        high=found.high,
        n=found.n,
        unscored=int(np.isnan(card.values).sum()),
        chance=card.chance,
        oracle=card.oracle,
        normalized=normalized(found.mean, card.chance, card.oracle, card.higher_is_better is not False),
        group=card.group,
        unit=card.unit,
        headline=card.headline,
        part_of=card.part_of,
        higher_is_better=card.higher_is_better,
        signed=card.signed,
        judge=card.judge,
        item_kind=card.item_kind,
        controls=dict(card.controls),
        items={} if card.item_kind == "neuron" else items,
    )


def _bounded(found: Estimate, unit: str) -> Estimate:
    """Of correlations and cosines an interval within -1 to 1: jackknife values may lie outside."""
    if unit not in ("correlation", "cosine"):
        return found
    return replace(found, low=float(np.clip(found.low, -1, 1)), high=float(np.clip(found.high, -1, 1)))


def _neuron_results(
    explanations: Sequence[Explanation], cards: Sequence[Scorecard], truths: Mapping[Neuron, str | None]
) -> list[NeuronResult]:
    values: dict[str, dict[str, float]] = {}
    for card in cards:
        if card.item_kind == "neuron":
            for item, value in zip(card.items, card.values, strict=True):
                values.setdefault(item, {})[card.name] = float(value)
    return [
        NeuronResult(
            layer=e.neuron.layer,
            unit=e.neuron.unit,
            labels=e.labels,
            score=e.best.score if e.best else None,
            candidates=e.candidates,
            exemplars=e.exemplars.items if e.exemplars else (),
            captions=e.captions,
            truth=(truths[e.neuron] or _NOTHING) if e.neuron in truths else None,
            unscored=e.unscored,
            refinement=e.refinement,
            values=values.get(str(e.neuron), {}),
            weights=e.weights,
            group=tuple(map(str, e.group)),
        )
        for e in explanations
    ]


def _plain(table: Table) -> Table:
    """The table with null where a number is not finite, as it is read back."""
    return replace(table, rows=[finite(row) for row in table.rows])


def _totals(used: Usage) -> dict[str, Any]:
    return used.totals  # mypy does not see that only dollars may be None


def _curves(explanations: Sequence[Explanation]) -> dict[str, tuple[float, ...]]:
    """The gain of each refinement iteration, over the neurons that reached it."""
    records = [e.refinement for e in explanations if e.refinement]
    steps = range(max((len(record.progress) for record in records), default=0))
    reached = [[record for record in records if len(record.progress) > step] for step in steps]
    new = [
        float(np.mean([record.answers[step] != record.answers[step + 1] for record in of_step]))
        for step, of_step in enumerate(reached)
    ]
    progress = [
        float(np.mean([record.progress[step] for record in of_step])) for step, of_step in enumerate(reached)
    ]
    curves = {
        "refine.neurons": tuple(float(len(of_step)) for of_step in reached),
        "refine.progress": tuple(progress),
        "refine.new_answers": tuple(new),
    }
    return curves if records else {}


def _versions() -> dict[str, str]:
    found = {name: version(name) for name in _PACKAGES}
    return {**found, "python": platform.python_version(), "git": _git_revision()}


def _git_revision() -> str:
    """The revision of the code, with "-dirty" where tracked files were changed; "unknown" outside of git."""
    here = ["git", "-C", str(Path(__file__).parent)]
    try:
        head = subprocess.run([*here, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*here, "diff", "--quiet", "HEAD"], check=False).returncode
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("-dirty" if changed else "")
