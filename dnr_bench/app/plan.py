"""What a run would do, before it does any of it: its sizes, and how long these took here before."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from dnr_bench.app.run import RunConfig
from dnr_bench.data.stages import StageCount
from dnr_bench.infra.digests import digest
from dnr_bench.infra.errors import RunError
from dnr_bench.infra.files import writing
from dnr_bench.methods.describe_and_dissect.method import DescribeAndDissect
from dnr_bench.outputs.terminal.console import escaped
from dnr_bench.results.settings import MANNERS, PLACES
from dnr_bench.session import Session

#: For each stage what it counts, and the groups of settings that what it takes depends on.
_STAGES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "activations": ("probing images", ("target", "probe")),
    "exemplars": ("neurons", ("target", "probe", "exemplars")),
    "captions": ("images and crops", ("captioner", "contrast")),
    "candidates": ("neurons", ("summarizer", "contrast")),
    "images": ("images of concepts", ("generator",)),
    "image_activations": ("images of concepts", ("target", "generator")),
    "image_embeddings": ("images", ("encoder", "generator")),
    "evaluation": ("neurons", ("evaluator", "held_out", "generator")),
}
#: Settings that change how much there is to do, and not how fast it goes.
_SIZES = ("seed", "n_images", "path", "split", "captions", "labels", "store")


@dataclass(frozen=True)
class Step:
    """One stage: how many of what, whether this very run has been here before, and how long it will take.

    items: at most so many, since neurons share concepts. seconds: None where nothing is known.
    """

    stage: str
    what: str
    items: int
    stored: bool
    seconds: float | None


@dataclass(frozen=True)
class Plan:
    """What a run would do. questions: to chat models, by part, at most."""

    images: int
    neurons: Mapping[str, int]
    steps: tuple[Step, ...]
    questions: Mapping[str, int]

    @property
    def seconds(self) -> float | None:
        """Of all stages together; None where one of them is not known."""
        known = [step.seconds for step in self.steps]
        return None if None in known else sum(value for value in known if value is not None)


@dataclass(frozen=True)
class Ledger:
    """Notes, beside the store, on how long stages took on this machine, and which runs have been done.

    rates: seconds per item by stage and its settings. done: digests of finished runs.
    """

    path: Path
    rates: Mapping[str, float]
    done: Sequence[str]

    @classmethod
    def of(cls, config: RunConfig) -> Ledger:
        """The notes beside the run's store; none where there are none, or they cannot be read."""
        path = config.store.root / "ledger.json"
        with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
            content = json.loads(path.read_text(encoding="utf-8"))
            rates = {str(name): float(rate) for name, rate in content["rates"].items()}
            return cls(path, rates, [str(name) for name in content["done"]])
        return cls(path, {}, [])

    def noted(self, config: RunConfig, session: Session, stages: Mapping[str, StageCount]) -> None:
        """Add a finished run. Stages that were read from the store for the most part say nothing of speed."""
        rates = dict(self.rates)
        for stage, items in _items(config, session).items():
            count = stages.get(stage)
            if count is not None and items and count.misses >= count.hits / 2:
                rates[_name(stage, config)] = count.seconds / items
        done = [*dict.fromkeys([*self.done, _run_name(config)])][-1000:]
        # a note that cannot be written costs no result
        with suppress(RunError), writing(self.path) as partial:
            partial.write_text(json.dumps({"rates": rates, "done": done}), encoding="utf-8")


def plan_of(config: RunConfig, session: Session) -> Plan:
    """The plan of a run whose parts are built and whose probing set is listed; no model is asked."""
    ledger = Ledger.of(config)
    stored = _run_name(config) in ledger.done
    steps = []
    for stage, items in _items(config, session).items():
        rate = ledger.rates.get(_name(stage, config))
        seconds = 0.0 if stored else None if rate is None else rate * items
        steps.append(Step(stage, _STAGES[stage][0], items, stored, seconds))
    layers = [neuron.layer for neuron in config.neurons]
    return Plan(
        images=len(session.probe.images),
        neurons={layer: layers.count(layer) for layer in dict.fromkeys(layers)},
        steps=tuple(steps),
        questions=_questions(config),
    )


def _items(config: RunConfig, session: Session) -> dict[str, int]:
    """At most how many items each stage has."""
    images, neurons, method = len(session.probe.images), len(config.neurons), config.method
    exemplars = neurons * min(config.exemplars.n, images)
    found = {"activations": images, "exemplars": neurons}
    if isinstance(method, DescribeAndDissect):
        others = min(method.concepts.contrast.n_images, images)
        drawn = neurons * method.concepts.n * config.drawing.images_per_concept
        found |= {
            "captions": exemplars + others,
            "candidates": neurons,
            "images": drawn,
            "image_activations": drawn,
            "image_embeddings": drawn + exemplars,
        }
    return found | {"evaluation": neurons}


def _questions(config: RunConfig) -> dict[str, int]:
    """At most how many questions each part asks a chat model, without those that are asked again."""
    method = config.method
    if not isinstance(method, DescribeAndDissect):
        return {}
    exemplars = len(config.neurons) * config.exemplars.n
    samples = len(config.neurons) * method.concepts.n
    asked = {"captioner": exemplars + method.concepts.contrast.n_images, "summarizer": exemplars + samples}
    return {name: number for name, number in asked.items() if name in config.metered}


def _name(stage: str, config: RunConfig) -> str:
    """A stage with the settings that its speed depends on."""
    settings = {group: config.resolved.get(group) for group in (*_STAGES[stage][1], "device", "dtype")}
    return f"{stage} {digest({'settings': _without_sizes(settings)})[:16]}"


def _run_name(config: RunConfig) -> str:
    """What names a run's results: all settings that change what is computed."""
    return digest({k: v for k, v in config.resolved.items() if k not in (*MANNERS, *PLACES)})[:16]


def _without_sizes(settings: object) -> object:
    """The same without what changes how much there is to do, and not how fast it goes."""
    if not isinstance(settings, dict):
        return settings
    return {key: _without_sizes(value) for key, value in settings.items() if key not in _SIZES}


def print_plan(plan: Plan, choices: Mapping[str, str], out: Console) -> None:
    """Print what a run would do."""
    neurons = ", ".join(f"{number} of {layer}" for layer, number in plan.neurons.items())
    out.print(f"  {plan.images} probing images; neurons: {escaped(neurons)}")
    chosen = ", ".join(f"{group}={member}" for group, member in choices.items())
    out.print(f"  [dim]{escaped(chosen)}[/dim]")
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("stage")
    table.add_column("at most", justify="right")
    table.add_column("of")
    table.add_column("seconds", justify="right")
    for step in plan.steps:
        seconds = "stored" if step.stored else "?" if step.seconds is None else f"{step.seconds:.0f}"
        table.add_row(step.stage, f"{step.items:,}", step.what, seconds)
    out.print(table)
    for part, number in plan.questions.items():
        out.print(f"  {part} asks a chat model at most {number:,} questions, fewer where answers are stored")
    out.print(f"  {_told(plan)}")


def _told(plan: Plan) -> str:
    if all(step.stored for step in plan.steps):
        return "this very run has been done with this store: its stages are read from there"
    if plan.seconds is None:
        return "? : not measured here yet; after a run with these parts its time is known"
    return f"about {plan.seconds:.0f} s by earlier runs on this machine, without loading models"
