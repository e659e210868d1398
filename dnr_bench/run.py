"""One run: describe, evaluate, and gather everything into a `RunResult`; neither Hydra nor MLflow here."""

from __future__ import annotations

import json
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from dnr_bench.bench import Bench, RunConfig
from dnr_bench.errors import RunError
from dnr_bench.store import StageCount
from dnr_bench.types import Call, Explanation, Neuron, Scorecard, Table
from evaluators.metrics import Estimate, beaten_by_constant, estimate, normalized

_PACKAGES = (
    "dnr-bench", "torch", "torchvision", "transformers", "diffusers", "open_clip_torch", "mlflow",
    "hydra-core", "numpy", "scipy",
)  # fmt: skip


@dataclass(frozen=True)
class RunResult:
    """Everything that a run found out, as plain values; `write` makes it result.json.

    metrics: {name: mean, low, high, chance, oracle, normalized, n, unscored, higher_is_better, signed,
        judge, controls, items}.
    neurons: one record a neuron: labels, score, candidates, truth, unscored, and its value of each metric.
    tables: {name, rows, plot} of what evaluators found beside metrics.
    curves: {name: a value for each iteration of the refinement, from the first on}.
    stages: {name: seconds, hits, misses}.
    probe: name, digest, images, and skipped: {name, reason} of those that could not be read.
    usage: {part: model, asked, stored, prompt_tokens, completion_tokens, dollars} of what asks chat models.
    calls: what they asked in this run, and the answers; not in result.json but in calls.jsonl.
    """

    metrics: dict[str, dict[str, Any]]
    neurons: list[dict[str, Any]]
    tables: list[dict[str, Any]]
    curves: dict[str, list[float]]
    stages: dict[str, dict[str, Any]]
    usage: dict[str, dict[str, Any]]
    calls: list[dict[str, Any]]
    probe: dict[str, Any]
    config: dict[str, Any]
    versions: dict[str, str]
    seconds: float

    def write(self, folder: Path) -> Path:
        """Write result.json, whole or not at all, and calls.jsonl where a chat model was asked."""
        path = folder / "result.json"
        partial = path.with_suffix(".partial")
        content = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "calls"}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if self.calls:
                lines = "".join(f"{json.dumps(call)}\n" for call in self.calls)
                (folder / "calls.jsonl").write_text(lines)
            partial.write_text(json.dumps(finite(content), indent=1, allow_nan=False) + "\n")
            partial.replace(path)
        except OSError as error:
            raise RunError(f"cannot write {path}: {error.strerror or error}") from error
        return path


def run(config: RunConfig) -> RunResult:
    """Describe the neurons that the config names and evaluate their labels."""
    start = time.perf_counter()
    bench = Bench.of(config)
    explanations = config.method.explain(config.neurons, bench.pipeline)
    context, store = bench.context(explanations), bench.store
    description, store.counts = store.counts, {}
    found: list[Scorecard | Table] = []
    with store.timed("all"):
        for evaluator in config.evaluators.values():
            found += evaluator.evaluate(context)
    cards = [item for item in found if isinstance(item, Scorecard)]
    evaluation = StageCount(
        seconds=store.counts.pop("all").seconds,
        hits=sum(count.hits for count in store.counts.values()),
        misses=sum(count.misses for count in store.counts.values()),
    )
    seed = config.settings.seed
    return RunResult(
        metrics={card.metric: _metric(card, seed) for card in cards},
        neurons=_neuron_records(explanations, cards, bench.truths(context)),
        tables=[asdict(item) for item in found if isinstance(item, Table)],
        curves=_curves(explanations),
        stages={name: asdict(count) for name, count in {**description, "evaluation": evaluation}.items()},
        usage={name: {"model": used.model, **used.totals} for name, used in bench.usage().items()},
        calls=[_call(part, call) for part, used in bench.usage().items() for call in used.calls],
        probe={
            "name": bench.probe.name,
            "digest": bench.probe.digest,
            "images": len(bench.probe.images),
            "skipped": [asdict(item) for item in bench.probe.skipped],
        },
        config=config.resolved,
        versions=_versions(),
        seconds=time.perf_counter() - start,
    )


def constants_that_win(metrics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The metrics of a result in which one label for all neurons does as well as their own, or better."""
    return [
        name
        for name, values in metrics.items()
        if beaten_by_constant(values["mean"], values["controls"], values["higher_is_better"])
    ]


def finite(value: Any) -> Any:
    """The same structure with null where a number is not finite, as JSON knows no NaN."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def _metric(card: Scorecard, seed: int) -> dict[str, Any]:
    if card.item_kind == "run":
        found = Estimate(float(card.values[0]), np.nan, np.nan, 1)
    else:
        found = estimate(card.values, card.clusters, seed, card.signed)
    return {
        **asdict(found),
        "chance": card.chance,
        "oracle": card.oracle,
        "normalized": normalized(found.mean, card.chance, card.oracle, card.higher_is_better is not False),
        "unscored": int(np.isnan(card.values).sum()),
        "higher_is_better": card.higher_is_better,
        "signed": card.signed,
        "judge": card.judge,
        "item_kind": card.item_kind,
        "controls": dict(card.controls),
        "items": {} if card.item_kind == "neuron" else _items(card),
    }


def _call(part: str, call: Call) -> dict[str, Any]:
    """A call as plain values; of images only their names, which the store knows them by."""
    return {
        "part": part,
        "question": call.text,
        "images": list(call.images),
        "temperature": call.temperature,
        "seed": call.seed,
        **asdict(call.answer),
    }


def _items(card: Scorecard) -> dict[str, float]:
    """The values of a metric whose items are no neurons; those of neurons stand with the neurons."""
    return {item: float(value) for item, value in zip(card.items, card.values, strict=True)}


def _neuron_records(
    explanations: Sequence[Explanation], cards: Sequence[Scorecard], truths: Mapping[Neuron, str | None]
) -> list[dict[str, Any]]:
    values: dict[str, dict[str, float]] = {}
    for card in cards:
        for item, value in zip(card.items, card.values, strict=True):
            values.setdefault(item, {})[card.metric] = float(value)
    return [
        {
            "layer": e.neuron.layer,
            "unit": e.neuron.unit,
            "labels": list(e.labels),
            "score": e.best.score if e.best else None,
            "candidates": [asdict(candidate) for candidate in e.candidates],
            "exemplars": [asdict(item) for item in e.exemplars.items] if e.exemplars else [],
            "truth": (truths[e.neuron] or "(nothing)") if e.neuron in truths else None,
            "unscored": e.unscored,
            "course": asdict(e.course) if e.course else None,
            "values": values.get(str(e.neuron), {}),
        }
        for e in explanations
    ]


def _curves(explanations: Sequence[Explanation]) -> dict[str, list[float]]:
    """What each iteration of the refinement brought, over the neurons that reached it."""
    courses = [e.course for e in explanations if e.course]
    steps = range(max((len(course.progress) for course in courses), default=0))
    reached = [[course.progress[step] for course in courses if len(course.progress) > step] for step in steps]
    new = [
        [
            course.answers[step] != course.answers[step + 1]
            for course in courses
            if len(course.progress) > step
        ]
        for step in steps
    ]
    curves = {
        "refine.neurons": [float(len(values)) for values in reached],
        "refine.progress": [float(np.mean(values)) for values in reached],
        "refine.new_answers": [float(np.mean(values)) for values in new],
    }
    return curves if courses else {}


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
