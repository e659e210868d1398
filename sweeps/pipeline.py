"""The study of the whole pipeline: settings before scoring and those of the scoring function, jointly.

Every trial is a run per seed, from what is stored. Half of the items that the metric judges (neurons, classes
...) choose, the other half judges what was chosen. With costs the result is the front of the best trade-offs.
A trial ends after a seed where a finished one is better by more than chance and costs no more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from typing import Any

import numpy as np
import optuna
from matplotlib.figure import Figure
from omegaconf import DictConfig

from dnr_bench.app.composition import load_config
from dnr_bench.app.configuration import build_run
from dnr_bench.app.run import run
from dnr_bench.infra.errors import UsageError
from dnr_bench.results.schema import MetricResult, RunResult
from dnr_bench.statistics.intervals import Estimate
from dnr_bench.statistics.paired import Difference, Records, ScoredItem, difference, holm
from sweeps.judging import folds_of, judging, with_evaluators
from sweeps.plots import front_figure, search_figures
from sweeps.progress import counted
from sweeps.results import Recommendation, Rows, StudyResult, metrics_of, quality_of, rows_of, trial_rows
from sweeps.space import Space, check_space, suggest_overrides
from sweeps.storage import FINISHED, Direction, Objective, Studies, finish, together
from sweeps.tables import front_table, held_out_table

AS_GIVEN = "the settings as given"


#: Seed, item, label and quality.
Row = tuple[int, str, str, float]


@dataclass(frozen=True)
class Judged:
    """What the runs of some settings reached so far: rows, and for each cost a value per seed."""

    rows: tuple[Row, ...] = ()
    costs: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def __add__(self, other: Judged) -> Judged:
        names = dict.fromkeys([*self.costs, *other.costs])
        costs = {name: (*self.costs.get(name, ()), *other.costs.get(name, ())) for name in names}
        return Judged((*self.rows, *other.rows), costs)

    def cost(self, name: str) -> float:
        """The mean of a cost over the seeds."""
        return float(np.mean(self.costs[name]))

    def on_first(self, n_seeds: int, seeds: Sequence[int]) -> Judged:
        """The same on the first seeds only."""
        kept = set(seeds[:n_seeds])
        return Judged(
            tuple(row for row in self.rows if row[0] in kept),
            {name: values[:n_seeds] for name, values in self.costs.items()},
        )

    def written(self) -> str:
        """As a trial keeps it: lines that people can read where Optuna shows them."""
        return "\n".join(map(json.dumps, [dict(self.costs), *self.rows]))

    @classmethod
    def read(cls, text: str) -> Judged:
        """What `written` wrote."""
        costs, *rows = map(json.loads, text.splitlines())
        return cls(tuple(map(tuple, rows)), {name: tuple(values) for name, values in costs.items()})


@dataclass(frozen=True)
class Halves:
    """Which items choose settings, and which judge what was chosen: the same in every run of a study.

    Items of the settings as given are dealt evenly. One that only other settings have goes by its name.
    """

    metric: str
    seed: int
    dealt: Mapping[str, int]

    @classmethod
    def of(cls, metric: str, given: Judged, seed: int) -> Halves:
        """The halves of the items of the settings as given."""
        return cls(metric, seed, folds_of([item for _, item, _, _ in given.rows], 2, seed))

    def tuning(self, judged: Judged) -> Records:
        """The items that choose."""
        return self._records(judged, 0)

    def held_out(self, judged: Judged) -> Records:
        """The items that judge."""
        return self._records(judged, 1)

    def quality(self, judged: Judged) -> float:
        """The mean on the items that choose."""
        return float(np.mean([record.values[self.metric] for record in self.tuning(judged).values()]))

    def _records(self, judged: Judged, side: int) -> Records:
        return {
            (seed, item): ScoredItem(item, [label] if label else [], {self.metric: value})
            for seed, item, label, value in judged.rows
            if self._side(item) == side
        }

    def _side(self, item: str) -> int:
        found = self.dealt.get(item)
        return sha256(f"{self.seed}|{item}".encode()).digest()[0] % 2 if found is None else found


class PipelineStudy:
    """`metric`: quality, of any evaluator that gives a value per item. `costs`: metrics to weigh it with.

    `space`: a list of {value of a run: range} or {group: {member: {setting: range}}}. `judge`: settings of
    the metrics' evaluators, as far as they have them.
    """

    def __init__(
        self,
        metric: str,
        costs: Sequence[str],
        seeds: Sequence[int],
        judge: Mapping[str, Any],
        space: Sequence[Mapping[str, Space]],
    ) -> None:
        if not seeds or not space:
            raise UsageError("seeds and space must not be empty")
        self.metric, self.costs, self.seeds, self.judge = metric, list(costs), list(seeds), dict(judge)
        self.space = {name: given for part in space for name, given in part.items()}
        for name, given in self.space.items():
            check_space(name, given)

    @property
    def settings(self) -> dict[str, object]:
        """The settings of the trials, beside those of the runs."""
        return {
            "metric": self.metric,
            "costs": self.costs,
            "seeds": self.seeds,
            "judge": self.judge,
            "space": self.space,
        }

    def run(
        self, config: DictConfig, overrides: Sequence[str], studies: Studies, name: str, n_trials: int
    ) -> StudyResult:
        """Run the settings as given and what is missing of the trials, and judge what was chosen."""
        words = with_evaluators(overrides, [self.metric, *self.costs])
        given = Judged()
        with counted(len(self.seeds), "seeds with the settings as given") as advance:
            for seed in self.seeds:
                given += self._judged(words, seed)
                advance()
        halves = Halves.of(self.metric, given, studies.seed)
        if not halves.held_out(given):
            raise UsageError(
                f"{self.metric} judges {len(halves.dealt)} item: a study needs two halves of them"
            )
        quality: list[Direction] = ["maximize"]
        less: list[Direction] = ["minimize"]
        study = studies.open(name, 0, quality + less * len(self.costs), [self.metric, *self.costs])
        with counted(n_trials) as advance:
            finish(study, self._objective(words, halves), n_trials, advance)
        if not study.get_trials(deepcopy=False, states=FINISHED):
            raise UsageError(f"n_trials={n_trials}: no trial ran to its end")
        return self._result(name, study, given, halves)

    def _objective(self, overrides: Sequence[str], halves: Halves) -> Objective:
        def objective(trial: optuna.Trial) -> float | Sequence[float]:
            chosen = suggest_overrides(trial, self.space)
            trial.set_user_attr("command", " ".join(chosen))
            found = Judged()
            for step, of_seed in enumerate(self.seeds, 1):
                found += self._judged([*overrides, *chosen], of_seed)
                if (
                    step < len(self.seeds)
                    and (better := self._better(found, step, trial, halves)) is not None
                ):
                    trial.set_user_attr("ended", f"after {step} seeds: trial {better} is better, for no more")
                    raise optuna.TrialPruned
            trial.set_user_attr("values", found.written())
            quality = halves.quality(found)
            return (quality, *(found.cost(name) for name in self.costs)) if self.costs else quality

        return objective

    def _better(self, found: Judged, n_seeds: int, trial: optuna.Trial, halves: Halves) -> int | None:
        """A finished trial that is better on these seeds, by more than chance, and costs no more.

        Held against a few of the best only: each look is a chance to be wrong.
        """
        finished = [t for t in trial.study.get_trials(deepcopy=False, states=FINISHED) if t.values]
        finished.sort(key=lambda other: -other.values[0])
        judged = ((other.number, Judged.read(other.user_attrs["values"])) for other in finished)
        first = ((number, theirs.on_first(n_seeds, self.seeds)) for number, theirs in judged)
        rivals = (
            (number, theirs)
            for number, theirs in first
            if all(theirs.cost(name) <= found.cost(name) for name in self.costs)
        )
        for number, theirs in islice(rivals, _HELD_AGAINST):
            gain = difference(self.metric, halves.tuning(found), halves.tuning(theirs))
            if gain is not None and gain.low > 0:
                return number
        return None

    def _judged(self, overrides: Sequence[str], of_seed: int) -> Judged:
        """What a run reaches; an item that has no value, as it has no label, counts as 0."""
        config = load_config(*overrides, name="sweep")
        result = run(build_run(judging(config, [self.metric, *self.costs], self.judge, of_seed)))
        labels = {neuron.name: neuron.labels[:1] for neuron in result.neurons}
        rows = [
            (of_seed, item, "".join(labels.get(item, ())), float(np.nan_to_num(value)))
            for item, value in self._items(result).items()
        ]
        return Judged(tuple(rows), {name: (self._cost(result, name),) for name in self.costs})

    def _items(self, result: RunResult) -> Mapping[str, float]:
        """The quality of each item."""
        of_items = {
            name: metric
            for name, metric in result.metrics.items()
            if metric.item_kind != "run" and metric.higher_is_better
        }
        if self.metric not in of_items:
            raise UsageError(
                f"study.metric={self.metric!r} must be a metric with a value for each neuron (class, image"
                f" ...) of which more is better; here: {', '.join(of_items) or 'there is none'}"
            )
        found: MetricResult = of_items[self.metric]
        if found.item_kind != "neuron":
            return found.items
        return {n.name: n.values[self.metric] for n in result.neurons if self.metric in n.values}

    def _cost(self, result: RunResult, name: str) -> float:
        """A cost of a run; less is better, so that of what more is better the negative counts."""
        found = result.metrics.get(name)
        if found is None or found.higher_is_better is None or not np.isfinite(found.mean):
            usable = [n for n, m in result.metrics.items() if m.higher_is_better is not None]
            raise UsageError(f"study.costs: {name!r} is no metric to weigh; here: {', '.join(usable)}")
        return -found.mean if found.higher_is_better else found.mean

    def _result(self, name: str, study: optuna.Study, given: Judged, halves: Halves) -> StudyResult:
        best = min(study.best_trials, key=lambda trial: (-trial.values[0], trial.number))
        chosen = Judged.read(best.user_attrs["values"])
        as_given = halves.held_out(given)
        rows = rows_of(self.metric, halves.held_out(chosen), {AS_GIVEN: as_given})
        front = self._front(study, as_given, halves)
        tuning = halves.quality(chosen)
        shown = [held_out_table(f"{name}: {self.metric} of held-out items", rows, (), tuning)]
        if self.costs:
            title = f"the best trade-offs of {self.metric}, of {len(study.trials)} trials"
            shown.append(front_table(title, front, self.costs))
        figures = search_figures(together([study]), [self.metric, *self.costs])
        return StudyResult(
            name=name,
            metric=self.metric,
            recommended=_recommended(best, front, halves.quality(given)),
            rows=rows,
            tables={"front": [_flat(row) for row in front]} if self.costs else {},
            metrics={"tuning": tuning, **metrics_of(rows)},
            trials=trial_rows([study]),
            figures=figures | self._front_figures(study, front, given, quality_of(self.metric, as_given)),
            shown=tuple(shown),
        )

    def _front(self, study: optuna.Study, as_given: Records, halves: Halves) -> Rows:
        """The best trade-offs, cheapest first, each judged on held-out items beside the settings as given."""
        if not self.costs:
            return ()
        found = []
        first_of_equals = {tuple(trial.values): trial for trial in reversed(study.best_trials)}
        for trial in first_of_equals.values():
            judged = Judged.read(trial.user_attrs["values"])
            records = halves.held_out(judged)
            row: dict[str, object] = {
                "name": trial.number,
                **{cost: judged.cost(cost) for cost in self.costs},
                "quality": quality_of(self.metric, records),
                "gain": difference(self.metric, as_given, records),
                "tuning": halves.quality(judged),
                "command": trial.user_attrs["command"],
            }
            found.append(row)
        found.sort(key=lambda row: [float(str(row[cost])) for cost in self.costs])
        gains = [row["gain"] for row in found]
        adjusted = holm([gain.p if isinstance(gain, Difference) else float("nan") for gain in gains])
        return [{**row, "p_holm": p} for row, p in zip(found, adjusted, strict=True)]

    def _front_figures(
        self, study: optuna.Study, front: Rows, given: Judged, quality: Estimate
    ) -> dict[str, Figure]:
        if not self.costs:
            return {}
        cost = self.costs[0]
        points = [
            {self.metric: trial.values[0], cost: trial.values[1]}
            for trial in study.get_trials(deepcopy=False, states=FINISHED)
        ]
        return {"front": front_figure(self.metric, cost, points, front, (given.cost(cost), quality))}


#: A trial is held against so many of the best finished ones.
_HELD_AGAINST = 5


def _recommended(best: optuna.trial.FrozenTrial, front: Rows, given: float) -> tuple[Recommendation, ...]:
    """The best trial, and the cheapest one as good as the settings as given, without held-out items."""
    purpose = f"best on the items that choose (trial {best.number})"
    first = Recommendation(purpose, _words(best.user_attrs["command"]))
    for row in front:  # the cheapest one first
        if float(str(row["tuning"])) >= given:
            purpose = f"the cheapest that is as good as the settings as given there (trial {row['name']})"
            return first, Recommendation(purpose, _words(row["command"]))
    return (first,)


def _words(command: object) -> tuple[str, ...]:
    return tuple(str(command).split())


def _flat(row: Mapping[str, object]) -> dict[str, object]:
    """A row of the front as plain values."""
    found: dict[str, object] = {}
    for key, value in row.items():
        if hasattr(value, "mean"):
            found |= {f"{key}.{name}": getattr(value, name) for name in ("mean", "low", "high")}
        else:
            found[key] = value
    return found
