"""The jobs of a multirun side by side, read from what each has written to its folder."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from dnr_bench.data.scorecard import Plot
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.files import writing
from dnr_bench.infra.text_files import read_text
from dnr_bench.results.schema import MetricResult, RunResult
from dnr_bench.statistics.intervals import Estimate, estimate
from dnr_bench.statistics.paired import (
    LABEL_CHANGE,
    Difference,
    Records,
    ScoredItem,
    difference,
    holm,
    linked_by_label,
)

_OUTCOME = "outcome.json"
#: Settings whose value says what it is, beside the members of config groups.
_CHOSEN = ("experiment", "+experiment", "variant", "+variant", "evaluator")
#: Settings that say where and how to run, and not what.
_UNTOLD = ("paths.", "hydra.", "tracking.", "report", "debug", "verbose", "device", "experiment_name")
#: Why a job has no result that left no note.
INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Outcome:
    """How a run went: the words of its command line, its choice from each config group, why it failed.

    finished: when, in ISO format; None in notes that do not say. `write` sets it.
    """

    overrides: Sequence[str]
    choices: Mapping[str, str] = field(default_factory=dict)
    failure: str | None = None
    finished: str | None = None

    @property
    def settings(self) -> dict[str, str]:
        """The words of the command line by key."""
        parts = [word.partition("=") for word in self.overrides]
        return {key: value for key, _, value in parts}

    @property
    def title(self) -> str:
        """The command line for people."""
        return " ".join(self.overrides) or "defaults"

    def name(self, varied: Collection[str] = ()) -> str:
        """A short name: "topk_log · blur 2". varied: the settings that are told; none: all but places."""
        return short_name(self.settings, self.choices, varied)

    def write(self, folder: Path) -> None:
        """Note it beside the results, for the comparison at the end."""
        with writing(folder / _OUTCOME) as partial:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            partial.write_text(
                json.dumps({**asdict(self), "finished": self.finished or now}, indent=1) + "\n"
            )

    @classmethod
    def read(cls, folder: Path) -> Outcome | None:
        """The note in a run's folder; None without one.

        Raises:
            UsageError: the file is no such note.
        """
        path = folder / _OUTCOME
        if not path.exists():
            return None
        try:
            content = json.loads(read_text(path, "run"))
            overrides, choices, failure = content["overrides"], content["choices"], content["failure"]
            finished = content.get("finished")
            texts = [
                *overrides,
                *choices,
                *choices.values(),
                *(t for t in (failure, finished) if t is not None),
            ]
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise UsageError(f"{path} is no note of a run: {error}") from error
        if not isinstance(overrides, list) or not all(isinstance(text, str) for text in texts):
            raise UsageError(f"{path} is no note of a run: it must hold texts")
        return cls(overrides, choices, failure, finished)


def short_name(settings: Mapping[str, str], choices: Mapping[str, str], varied: Collection[str] = ()) -> str:
    """For people: members of groups alone, other settings with their key. varied: see `Outcome.name`."""
    told = [
        value if key in choices or key in _CHOSEN else f"{key} {value}"
        for key, value in settings.items()
        if ({key, key.lstrip("+~")} & {*varied} if varied else not key.startswith(_UNTOLD))
    ]
    return " · ".join(told) or "default settings"


@dataclass(frozen=True)
class Job:
    """One job of a multirun: its overrides, its result or failure, and its choice from each config group.

    folder: the name of its folder within that of the multirun; "" where it has none.
    """

    overrides: Mapping[str, str]
    result: RunResult | None
    failure: str | None
    choices: Mapping[str, str] = field(default_factory=dict)
    folder: str = ""

    @property
    def seed(self) -> str:
        """The seed that it ran with, whether it was named or is the default one."""
        config = self.result.config if self.result else {}
        return self.overrides.get("seed", str(config.get("seed", "")))

    @property
    def unseeded(self) -> dict[str, str]:
        """The overrides without the seed: jobs that share them are pooled."""
        return {key: value for key, value in self.overrides.items() if key != "seed"}


@dataclass(frozen=True)
class ComparisonRow:
    """Jobs that differ in nothing but the seed: their metrics over all neurons of all seeds.

    choices: the members of config groups. headlines: the names of the metrics for short tables and plots.
    costs: those of metrics in seconds.
    differences: of this row to the first one,
    paired over neurons and seeds; `label_change` is the share of neurons with another first label than there.
    p_holm: of each difference, adjusted for the rows.
    """

    overrides: Mapping[str, str]
    status: str
    metrics: Mapping[str, Estimate]
    chance: Mapping[str, float]
    computed: int | None
    seconds: float | None
    choices: Mapping[str, str] = field(default_factory=dict)
    headlines: tuple[str, ...] = ()
    costs: tuple[str, ...] = ()
    differences: Mapping[str, Difference] = field(default_factory=dict)
    p_holm: Mapping[str, float] = field(default_factory=dict)

    def name(self, varied: Collection[str]) -> str:
        """A short name: "topk_log · blur 2". varied: the settings that are told."""
        return short_name(self.overrides, self.choices, varied)

    def flat(self) -> dict[str, object]:
        """The row as plain values, for a table in MLflow."""
        values: dict[str, object] = {
            f"{name}{suffix}": value
            for name, found in self.metrics.items()
            for suffix, value in (("", found.mean), (".low", found.low), (".high", found.high))
        }
        values |= {
            f"{name}.difference{suffix}": value
            for name, found in self.differences.items()
            for suffix, value in (
                ("", found.mean),
                (".low", found.low),
                (".high", found.high),
                (".p_holm", self.p_holm[name]),
                (".detectable", found.detectable),
            )
        }
        return {
            **self.overrides,
            "status": self.status,
            **values,
            **{f"{name}.chance": level for name, level in self.chance.items()},
            "computed": self.computed,
            "seconds": self.seconds,
        }


def compare(jobs: Sequence[Job]) -> list[ComparisonRow]:
    """One row for each combination of overrides; jobs that differ only in their seed are pooled."""
    first, *others = grouped(jobs)
    rows = [replace(pooled(jobs), differences=_differences(jobs, first)) for jobs in others]
    return [pooled(first), *_adjusted(rows)]


def grouped(jobs: Sequence[Job]) -> list[list[Job]]:
    """The jobs that differ only in their seed together, in the order of the first of each."""
    groups: dict[tuple[tuple[str, str], ...], list[Job]] = {}
    for job in jobs:
        groups.setdefault(tuple(job.unseeded.items()), []).append(job)
    return list(groups.values())


def _adjusted(rows: Sequence[ComparisonRow]) -> list[ComparisonRow]:
    """The rows with P values that allow for how many rows are held against the first one."""
    p_values: list[dict[str, float]] = [{} for _ in rows]
    for name in dict.fromkeys(name for row in rows for name in row.differences):
        having = [i for i, row in enumerate(rows) if name in row.differences]
        for i, p in zip(having, holm([rows[i].differences[name].p for i in having]), strict=True):
            p_values[i][name] = p
    return [replace(row, p_holm=of_row) for row, of_row in zip(rows, p_values, strict=True)]


def best_row(
    rows: Sequence[ComparisonRow], metric: str, higher_is_better: bool = True
) -> ComparisonRow | None:
    """The row with the best mean of a metric; the first of equal ones, None where no row has it."""
    having = [row for row in rows if metric in row.metrics and np.isfinite(row.metrics[metric].mean)]
    sign = 1 if higher_is_better else -1
    return max(having, key=lambda row: sign * row.metrics[metric].mean, default=None)


def axis_of(rows: Sequence[ComparisonRow]) -> tuple[str, tuple[str, ...]] | None:
    """What varies along the axis of plots, numbers before anything else, and what varies beside it."""
    done = [row.overrides for row in rows if row.metrics]
    names = dict.fromkeys(name for overrides in done for name in overrides if name != "seed")
    varied = [name for name in names if len({overrides.get(name) for overrides in done}) > 1]
    if not varied:
        return None
    over = next((name for name in varied if all(is_number(o.get(name)) for o in done)), varied[-1])
    return over, tuple(name for name in varied if name != over)


def comparison_plots(rows: Sequence[ComparisonRow]) -> list[Plot]:
    """Label quality and label change over what varies: over its numbers where it has some (blur).

    A line for each combination of what else varies. Where the cost was measured, also the first headline over
    it. None where nothing varies, or no job has a metric.
    """
    axis = axis_of(rows)
    if axis is None:
        return []
    over, series = axis
    plots = [
        Plot(over, name, series, f"{name}, mean over neurons and 95% interval") for name in headlines_of(rows)
    ]
    title = "Neurons with another first label than in the first job, 95% interval"
    plots.append(Plot(over, f"{LABEL_CHANGE}.difference", series, title))
    costs = dict.fromkeys(name for row in rows for name in row.costs)
    return plots + [
        Plot(cost, quality, (over, *series), f"{quality} and its cost", "frontier")
        for quality in headlines_of(rows)[:1]
        for cost in costs
    ]


def headlines_of(rows: Sequence[ComparisonRow]) -> list[str]:
    """The headline metrics that some row has, in the order of the evaluators."""
    return list(dict.fromkeys(name for row in rows for name in row.headlines))


def varied_names(rows: Sequence[ComparisonRow]) -> list[str]:
    """The overrides in which the rows differ; all of them where they do not."""
    names = [name for name in rows[0].overrides if len({row.overrides.get(name) for row in rows}) > 1]
    return names or list(rows[0].overrides)


def sweep_name(values: Mapping[str, str]) -> str:
    """A short name for jobs that differ in these settings: "scorer × blur"."""
    return " × ".join(values) or "multirun"


def values_of(rows: Sequence[ComparisonRow], name: str) -> str:
    """The values that a setting has in the rows: "0, 2, 4"."""
    return ", ".join(dict.fromkeys(str(row.overrides[name]) for row in rows if name in row.overrides))


def job_folders(sweep: Path) -> list[Path]:
    """The folders of a multirun's jobs in order."""
    return sorted((path for path in sweep.glob("*") if path.name.isdigit()), key=lambda path: int(path.name))


def common_choices(jobs: Sequence[Job]) -> dict[str, str]:
    """The config groups whose member is the same in every finished job: {"generator": "diffusion", ...}."""
    finished = [set(job.choices.items()) for job in jobs if job.result is not None]
    return dict(sorted(set.intersection(*finished))) if finished else {}


def read_job(folder: Path) -> Job:
    """The job of a folder; one without a note was interrupted."""
    outcome = Outcome.read(folder)
    if outcome is None:
        return Job({"job": folder.name}, None, INTERRUPTED)
    if outcome.failure is not None:
        return Job(outcome.settings, None, outcome.failure)
    return Job(outcome.settings, RunResult.read(folder), None, outcome.choices, folder.name)


def pooled(jobs: Sequence[Job]) -> ComparisonRow:
    """Jobs that differ in nothing but the seed as one row, without differences."""
    seeds = [job.overrides["seed"] for job in jobs if "seed" in job.overrides]
    overrides = jobs[0].unseeded
    if seeds:
        overrides["seed"] = ",".join(seeds)
    results = [job.result for job in jobs if job.result is not None]
    failures = [job.failure for job in jobs if job.failure is not None]
    if not results:
        return ComparisonRow(overrides, f"failed: {failures[0].splitlines()[0]}", {}, {}, None, None)
    names = metric_names(results)
    items = [item for result in results for _, item in scored_items(result)]
    part = f"{len(results)} of {len(jobs)} finished: "
    status = f"{part}{failures[0].splitlines()[0]}" if failures else "finished"
    return ComparisonRow(
        overrides,
        status,
        {name: _over_items(name, items, results) for name in names},
        {name: level for name in names if (level := _chance(name, results)) is not None},
        sum(stage.misses for result in results for stage in result.stages.values()),
        sum(result.seconds for result in results),
        next(job.choices for job in jobs if job.result is not None),
        tuple(name for name in names if first_metric(name, results).headline),
        tuple(name for name in names if first_metric(name, results).unit == "seconds"),
    )


def _differences(jobs: Sequence[Job], baseline: Sequence[Job]) -> dict[str, Difference]:
    """Each neuron's values less those of the same neuron with the same seed in other jobs."""
    before, after = records_of(baseline), records_of(jobs)
    apart = judged_apart([*baseline, *jobs])
    results = [job.result for job in (*baseline, *jobs) if job.result is not None]
    names = [name for name in (*metric_names(results), LABEL_CHANGE) if name not in apart]
    found = {name: difference(name, before, after) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def metric_names(results: Sequence[RunResult]) -> list[str]:
    """The metrics of the results, but for those that repeat another one for some of its items."""
    names = {name: metric.part_of for result in results for name, metric in result.metrics.items()}
    return [name for name, part_of in names.items() if not part_of]


def changed_labels(before: Records, after: Records) -> list[dict[str, object]]:
    """The neurons whose labels differ, with both and, where they have one, the seed."""
    return [
        {
            "neuron": item.name,
            "seed": key[0] if isinstance(key, tuple) else "",
            "before": "; ".join(before[key].labels),
            "after": "; ".join(item.labels),
            "truth": item.truth,
        }
        for key, item in after.items()
        if key in before and list(before[key].labels) != list(item.labels)
    ]


def judged_apart(jobs: Sequence[Job]) -> set[str]:
    """The metrics that different models judged in different jobs: their values must not be compared."""
    judges: dict[str, set[str]] = {}
    for job in jobs:
        for name, metric in (job.result.metrics if job.result else {}).items():
            judges.setdefault(name, set()).add(metric.judge)
    return {name for name, found in judges.items() if len(found) > 1}


def records_of(jobs: Sequence[Job], by_seed: bool = True) -> Records:
    """The scored items of finished jobs, each under its seed (unless `by_seed` is false) and name."""
    return {
        (job.seed if by_seed else "", kind, item.name): item
        for job in jobs
        if job.result is not None
        for kind, item in scored_items(job.result)
    }


def paired_records(before: Sequence[Job], after: Sequence[Job]) -> tuple[Records, Records]:
    """The scored items of both sides, paired by seed where a side has several; single runs always pair."""
    by_seed = len(before) > 1 or len(after) > 1
    return records_of(before, by_seed), records_of(after, by_seed)


def scored_items(result: RunResult) -> list[tuple[str, ScoredItem]]:
    """The neurons of a result, and its classes, pairs and images as items without labels, with their kind."""
    values: dict[tuple[str, str], dict[str, float]] = {}
    for name, metric in result.metrics.items():
        for item, value in metric.items.items():
            values.setdefault((metric.item_kind, item), {})[name] = value
    neurons = [("neuron", ScoredItem(n.name, n.labels, n.values, n.truth)) for n in result.neurons]
    others = [(kind, ScoredItem(f"{kind}:{item}", (), found)) for (kind, item), found in values.items()]
    return [*neurons, *others]


def first_metric(name: str, results: Sequence[RunResult]) -> MetricResult:
    """The metric in the first result that has it."""
    return next(result.metrics[name] for result in results if name in result.metrics)


def _chance(metric: str, results: Sequence[RunResult]) -> float | None:
    levels = [result.metrics[metric].chance for result in results if metric in result.metrics]
    known = [level for level in levels if level is not None]
    return float(np.mean(known)) if known else None


def _over_items(metric: str, items: Sequence[ScoredItem], results: Sequence[RunResult]) -> Estimate:
    """The mean over the items that have the metric; neurons that share a label are one cluster."""
    having = [item for item in items if metric in item.values]
    signed = any(result.metrics[metric].signed for result in results if metric in result.metrics)
    values = np.asarray([item.values[metric] for item in having], float)
    return estimate(values, linked_by_label(having), signed=signed)


def is_number(value: object) -> bool:
    """Whether a value, also one that is written out, stands on an axis of numbers."""
    try:
        float(str(value))
    except ValueError:
        return False
    return True
