"""Everything that a run found out, as one typed and versioned record.

The one reader and writer of result.json. Terminal, pages, MLflow, gate, comparison and studies
read `RunResult`, and nothing else.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import cattrs

from dnr_bench.data.chat import Call
from dnr_bench.data.exemplars import Exemplar
from dnr_bench.data.explanation import NO_LABELS_WANTED, RefinementRecord, ScoredCandidate
from dnr_bench.data.images import Skipped
from dnr_bench.data.scorecard import ItemKind, Table
from dnr_bench.data.stages import StageCount
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.files import writing
from dnr_bench.infra.plain_values import structured
from dnr_bench.infra.text_files import read_text
from dnr_bench.statistics.controls import beaten_by

if TYPE_CHECKING:
    import pandas

#: Raise it whenever a field is added, removed or read in another way.
SCHEMA: Literal[4] = 4

_NAME = "result.json"
#: A hundred years.
_MOST_SECONDS = 3.2e9


@dataclass(frozen=True)
class MetricResult:
    """One metric over its items: mean with its 95% interval, and what it is held against.

    n: items with a value; unscored: items without one. normalized: 0 at chance, 1 at the oracle. items: the
    value of each item, but for neurons, whose values stand with them. The other fields are the `Scorecard`'s.
    """

    mean: float
    low: float
    high: float
    n: int
    unscored: int
    chance: float | None
    oracle: float | None
    normalized: float | None
    group: str
    unit: str
    headline: bool
    part_of: str
    higher_is_better: bool | None
    signed: bool
    judge: str
    item_kind: ItemKind
    controls: Mapping[str, float]
    items: Mapping[str, float]


@dataclass(frozen=True)
class NeuronResult:
    """One neuron: its labels or the reason why it has none, its candidates, and its value of each metric.

    truth: what it is known to detect; "(nothing)" where it is known to detect nothing, None where nothing is
    known. captions: one per exemplar, or none. weights: one per label where labels are a weighted sum. group:
    the names of other neurons that were explained together with it.
    """

    layer: str
    unit: int
    labels: tuple[str, ...]
    score: float | None
    candidates: tuple[ScoredCandidate, ...]
    exemplars: tuple[Exemplar, ...]
    captions: tuple[str, ...]
    truth: str | None
    unscored: str | None
    refinement: RefinementRecord | None
    values: Mapping[str, float]
    weights: tuple[float, ...] = ()
    group: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """layer:unit."""
        return f"{self.layer}:{self.unit}"

    @property
    def answer(self) -> str:
        """The labels in one line: one after another, or a sum with weights; "" where there is none."""
        if self.weights:
            said = " + ".join(f"{w:.2f} {label}" for w, label in zip(self.weights, self.labels, strict=True))
            said = said.replace("+ -", "\N{MINUS SIGN} ")
        else:
            said = "; ".join(self.labels)
        return f"{said} (together with {', '.join(self.group)})" if self.group and said else said

    @property
    def runners_up(self) -> str:
        """The candidates that are no labels, best first."""
        return "; ".join(c.text for c in self.candidates if c.text not in self.labels)


@dataclass(frozen=True)
class ProbeResult:
    """The probing set: its name, the digest of its content, its size, and images that could not be read."""

    name: str
    digest: str
    images: int
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True)
class ChatUsage:
    """The questions that a part asked a chat model, in numbers.

    stored: answered before this run. refused: those that the service would not answer. tokens: None where the
    server did not count them. dollars: None where prices are unknown.
    """

    model: str
    asked: float
    stored: float
    prompt_tokens: float | None
    completion_tokens: float | None
    dollars: float | None
    refused: float = 0.0


@dataclass(frozen=True)
class CallRecord:
    """One question that a part asked in this run, and the answer."""

    part: str
    call: Call

    def plain(self) -> dict[str, object]:
        """A line of calls.jsonl; of images it has the names of their content."""
        call = self.call
        asked = {
            "part": self.part,
            "question": call.text,
            "images": list(call.images),
            "temperature": call.temperature,
            "seed": call.seed,
        }
        return {**asked, **asdict(call.answer)}


@dataclass(frozen=True, repr=False)
class RunResult:
    """Everything that a run found out; `write` makes it result.json, `read` gets it back.

    tables: what evaluators found beside metrics. curves: {name: a value per iteration of the refinement}.
    stages: what each stage took. usage: what each part asked of chat models; calls: what they asked in this
    run and the answers, which stand in calls.jsonl and not in result.json. config: the resolved settings.
    """

    metrics: Mapping[str, MetricResult]
    neurons: tuple[NeuronResult, ...]
    tables: tuple[Table, ...]
    curves: Mapping[str, tuple[float, ...]]
    stages: Mapping[str, StageCount]
    usage: Mapping[str, ChatUsage]
    probe: ProbeResult
    config: Mapping[str, Any]
    versions: Mapping[str, str]
    seconds: float
    schema: Literal[4] = SCHEMA
    calls: tuple[CallRecord, ...] = ()

    @classmethod
    def read(cls, path: Path | str) -> RunResult:
        """The result in a run's folder, or in its result.json.

        Raises:
            UsageError: there is none, it is no result, or another version of dnr_bench wrote it.
        """
        file = Path(path)
        file = file / _NAME if file.is_dir() or file.name != _NAME else file
        try:
            content = json.loads(read_text(file, "run"))
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{file} is no result of a run: {error}") from error
        written_by = content.get("schema", 1) if isinstance(content, dict) else None
        if written_by is not None and written_by != SCHEMA:
            raise UsageError(
                f"{file} was written by another version of dnr_bench (schema {written_by}; this one reads"
                f" {SCHEMA}): run it again, which takes little where the store is still there"
            )
        try:
            found = structured(content, cls)
            _check(found, content)
        except ValueError as error:
            raise UsageError(f"{file} is no result of a run: {error}") from error
        return found

    def write(self, folder: Path) -> Path:
        """Write result.json, whole or not at all, and calls.jsonl where a chat model was asked."""
        path = folder / _NAME
        if self.calls:
            with writing(folder / "calls.jsonl") as partial:
                partial.write_text("".join(f"{json.dumps(call.plain())}\n" for call in self.calls))
        with writing(path) as partial:
            partial.write_text(json.dumps(self.plain(), indent=1, allow_nan=False) + "\n")
        return path

    def plain(self) -> dict[str, object]:
        """The content of result.json as plain values, null where a number is not finite."""
        content = {item.name: getattr(self, item.name) for item in fields(RunResult) if item.name != "calls"}
        return {name: finite(cattrs.unstructure(value)) for name, value in content.items()}

    def beaten_by(self, control: str) -> list[str]:
        """The metrics in which labels that cost nothing do as well as the neurons' own, or better.

        control: "best_constant", one label for all neurons, or "copy", the caption of the highest exemplar.
        """
        return [
            name
            for name, metric in self.metrics.items()
            if beaten_by(control, metric.mean, metric.controls, metric.higher_is_better, metric.oracle)
        ]

    @property
    def nothing_labeled(self) -> str | None:
        """Why no neuron has so much as a candidate concept; None where one has."""
        if not self.neurons or self.is_unlabeled_on_purpose or any(n.candidates for n in self.neurons):
            return None
        reasons = sorted({neuron.unscored or "no reason is known" for neuron in self.neurons})
        refused = [
            f"{used.model} refused {int(used.refused)} of {int(used.asked + used.stored)} questions"
            for used in self.usage.values()
            if used.refused
        ]
        return "; ".join([*reasons, *refused])

    @property
    def is_unlabeled_on_purpose(self) -> bool:
        """Whether the method gives no labels."""
        return all(neuron.unscored == NO_LABELS_WANTED for neuron in self.neurons)

    @property
    def unscored(self) -> list[NeuronResult]:
        """The neurons without a label."""
        return [neuron for neuron in self.neurons if neuron.unscored is not None]

    def __repr__(self) -> str:
        shown = [f"{name} {metric.mean:.3f}" for name, metric in self.metrics.items() if metric.headline]
        return f"<{type(self).__name__}: {len(self.neurons)} neurons{', '.join(['', *shown])}>"

    def to_pandas(self) -> pandas.DataFrame:
        """One row per neuron: names, label, score, truth, and its value of each metric."""
        import pandas

        return pandas.DataFrame(
            [
                {
                    "layer": neuron.layer,
                    "unit": neuron.unit,
                    "label": neuron.answer or None,
                    "score": neuron.score,
                    "runners_up": neuron.runners_up,
                    "truth": neuron.truth,
                    "unscored": neuron.unscored,
                    **neuron.values,
                }
                for neuron in self.neurons
            ]
        )

    def _repr_html_(self) -> str:
        """For notebooks: the headline metrics, and the first neurons."""
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{metric.mean:.3f}</td>"
            f"<td>{metric.low:.2f} to {metric.high:.2f}</td><td>{metric.n}</td></tr>"
            for name, metric in self.metrics.items()
            if metric.headline
        )
        head = "<tr><th>metric</th><th>mean</th><th>95% interval</th><th>n</th></tr>"
        metrics = f"<table>{head}{rows}</table>" if rows else ""
        frame = self.to_pandas().loc[:, ["layer", "unit", "label", "score", "runners_up", "unscored"]]
        unlabeled = f", {len(self.unscored)} without a label" if self.unscored else ""
        return f"<p>{len(self.neurons)} neurons{unlabeled}</p>{metrics}{frame.to_html(max_rows=20)}"


def _check(found: RunResult, content: object) -> None:
    """Raises `ValueError` for what no run writes, and what would end its readers late."""
    if not 0 <= found.seconds <= _MOST_SECONDS:
        raise ValueError(f"seconds={found.seconds} is no duration")
    for neuron in found.neurons:
        if neuron.weights and len(neuron.weights) != len(neuron.labels):
            raise ValueError(
                f"{neuron.name} has {len(neuron.labels)} labels and {len(neuron.weights)} weights"
            )
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"a text holds half a character: {error.reason}") from error


def finite(value: Any) -> Any:
    """The same structure with null where a number is not finite, as JSON knows no NaN."""
    if isinstance(value, Mapping):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [finite(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
