"""The study of scoring functions: evidence is gathered once, and a trial is arithmetic on it.

Neurons are dealt to folds. For each fold a study of its own chooses settings on the neurons of all other
folds, and is judged on that fold, which had no say: every neuron is judged once, and luck gains nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from omegaconf import DictConfig

from dnr_bench.data.neuron import Neuron
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.ranges import check_range
from dnr_bench.protocols import Scorer
from dnr_bench.statistics.paired import Records
from sweeps.evidence import Case, outcome
from sweeps.judging import answered, built_scorer, folds_of, gathered, scorer_node
from sweeps.plots import search_figures
from sweeps.progress import counted
from sweeps.results import Recommendation, StudyResult, metrics_of, quality_of, rows_of, trial_rows
from sweeps.space import (
    Range,
    Value,
    check_search_range,
    rounded,
    scorer_overrides,
    scorer_space,
    suggest,
    suggest_all,
)
from sweeps.storage import FINISHED, Direction, Objective, Studies, best_of, done, finish, together
from sweeps.tables import held_out_table

_BUDGET = ("n_candidates", "images_per_concept")
_PROMISING = 50


@dataclass(frozen=True)
class Choice:
    """A scoring function, its settings that are not the default ones, and the evidence that it gets."""

    scorer: str
    settings: Mapping[str, Value]
    budget: Mapping[str, int]

    @property
    def overrides(self) -> tuple[str, ...]:
        """The choice as overrides of a run."""
        budget = (f"{name}={value}" for name, value in self.budget.items())
        return *scorer_overrides(self.scorer, self.settings), *budget

    @property
    def images(self) -> int:
        """How many images a neuron needs; 0 where that is not searched."""
        return int(np.prod(list(self.budget.values()))) if self.budget else 0


class ScoringStudy:
    """`space`: a list of {scorer: {setting: range}}; `budget`: ranges of candidates and images, or none.

    With a budget the study has two aims, quality and few images; `curve` then tells how good the labels of
    held-out neurons are when settings are chosen within a budget. `judge`: settings of the metric's evaluator
    while it judges candidates, as far as it has them.
    """

    def __init__(
        self,
        metric: str,
        seeds: Sequence[int],
        folds: int,
        budget: Mapping[str, Range],
        compared: Sequence[str],
        judge: Mapping[str, Any],
        space: Sequence[Mapping[str, Mapping[str, Range]]],
    ) -> None:
        check_range(2, 1000, folds=folds)
        self.space = scorer_space(seeds, space)
        if budget and set(budget) != set(_BUDGET):
            raise UsageError(
                f"budget={dict(budget)} must have ranges of {' and '.join(_BUDGET)}, or be empty"
            )
        for name, given in budget.items():
            check_search_range(f"budget.{name}", given)
        self.metric, self.seeds, self.folds = metric, list(seeds), folds
        self.budget, self.compared, self.judge = dict(budget), list(compared), dict(judge)

    @property
    def settings(self) -> dict[str, object]:
        """The settings of the trials, beside those of the runs."""
        return {
            "metric": self.metric,
            "seeds": self.seeds,
            "folds": self.folds,
            "budget": self.budget,
            "space": self.space,
            "judge": self.judge,
        }

    def run(
        self, config: DictConfig, overrides: Sequence[str], studies: Studies, name: str, n_trials: int
    ) -> StudyResult:
        """Gather the evidence, run what is missing of the trials, and judge what was chosen."""
        self._check(config)
        scorers = {scorer: scorer_node(scorer, overrides) for scorer in [*self.space, *self.compared]}
        cases = gathered(config, self.metric, self.judge, self.seeds, self.folds)
        fold_of = folds_of([case.neuron for case in cases], self.folds, studies.seed)
        opened = []
        with counted(n_trials) as advance:
            for fold in range(self.folds):
                share = n_trials // self.folds + (fold < n_trials % self.folds)
                tuning = [case for case in cases if fold_of[case.neuron] != fold]
                directions: list[Direction] = ["maximize", "minimize"] if self.budget else ["maximize"]
                names = [f"{self.metric} without fold {fold}", *(["images"] if self.budget else [])]
                study = studies.open(f"{name}-{fold}", fold, directions, names)
                finish(study, self._objective(tuning, scorers), share, advance)
                opened.append(study)
        if not all(done(study) for study in opened):
            raise UsageError(f"n_trials={n_trials} must be at least the number of folds ({self.folds})")
        return self._judged(name, cases, fold_of, opened, scorers)

    def _check(self, config: DictConfig) -> None:
        """Raises `UsageError` for settings of runs that the evidence knows nothing of."""
        has_proposals = any(name != "_target_" for name in config.proposals)
        if self.budget and (has_proposals or config.user_concepts):
            raise UsageError(
                "a budget counts candidates of captions: it needs proposals=none, user_concepts=[]"
            )

    def _objective(self, tuning: Sequence[Case], scorers: Mapping[str, Any]) -> Objective:
        def objective(trial: optuna.Trial) -> float | tuple[float, float]:
            choice = self._suggested(trial)
            found = outcome(_cut(tuning, choice), _scorer(choice, scorers))
            quality = float(found.quality.mean())
            return (quality, float(choice.images)) if self.budget else quality

        return objective

    def _suggested(self, trial: optuna.Trial) -> Choice:
        scorer = str(suggest(trial, "scorer", list(self.space)))
        settings = suggest_all(trial, self.space[scorer], prefix=f"{scorer}.")
        return Choice(scorer, settings, {n: int(v) for n, v in suggest_all(trial, self.budget).items()})

    def _made(self, trial: optuna.trial.FrozenTrial) -> Choice:
        """The choice of a finished trial."""
        scorer = str(trial.params["scorer"])
        settings = {name: rounded(trial.params[f"{scorer}.{name}"]) for name in self.space[scorer]}
        return Choice(scorer, settings, {name: int(trial.params[name]) for name in self.budget})

    def _judged(
        self,
        name: str,
        cases: Sequence[Case],
        fold_of: Mapping[Neuron, int],
        studies: Sequence[optuna.Study],
        scorers: Mapping[str, Any],
    ) -> StudyResult:
        """The quality of each fold's best trial on the fold's own neurons, beside settings as given."""
        best = [best_of(study) for study in studies]
        found = self._held_out(cases, fold_of, [self._made(trial) for trial in best], scorers)
        given = {
            scorer: answered(self.metric, cases, built_scorer(scorer, scorers[scorer], {}))
            for scorer in self.compared
        }
        trials = [t for study in studies for t in study.get_trials(deepcopy=False, states=FINISHED)]
        rows = rows_of(self.metric, found, given)
        curve = tuple(self._curve(cases, fold_of, studies, scorers)) if self.budget else ()
        tuning_quality = float(np.mean([trial.values[0] for trial in best]))
        return StudyResult(
            name=name,
            metric=self.metric,
            recommended=(
                Recommendation("chosen on all neurons", self._overall(cases, trials, scorers).overrides),
            ),
            rows=rows,
            tables={"curve": curve},
            metrics={"tuning": tuning_quality, **metrics_of(rows)},
            trials=trial_rows(studies),
            figures=search_figures(together(studies), ["quality", "images"]),
            shown=(
                held_out_table(f"{name}: {self.metric} of held-out neurons", rows, curve, tuning_quality),
            ),
        )

    def _held_out(
        self,
        cases: Sequence[Case],
        fold_of: Mapping[Neuron, int],
        choices: Sequence[Choice],
        scorers: Mapping[str, Any],
    ) -> Records:
        """The cases of each fold under the choice that was made without them."""
        records: dict[Any, Any] = {}
        for fold, choice in enumerate(choices):
            mine = [case for case in cases if fold_of[case.neuron] == fold]
            records |= answered(self.metric, _cut(mine, choice), _scorer(choice, scorers))
        return records

    def _overall(
        self,
        cases: Sequence[Case],
        trials: Sequence[optuna.trial.FrozenTrial],
        scorers: Mapping[str, Any],
    ) -> Choice:
        """Of the best trials of all folds the one that does best on all neurons; fewer images where equal."""
        promising = sorted(trials, key=lambda trial: -trial.values[0])[:_PROMISING]
        choices = {choice.overrides: choice for choice in map(self._made, promising)}
        return max(
            choices.values(),
            key=lambda c: (float(outcome(_cut(cases, c), _scorer(c, scorers)).quality.mean()), -c.images),
        )

    def _curve(
        self,
        cases: Sequence[Case],
        fold_of: Mapping[Neuron, int],
        studies: Sequence[optuna.Study],
        scorers: Mapping[str, Any],
    ) -> list[Mapping[str, float]]:
        """The quality on held-out neurons of what is best within each budget of images."""
        of_folds = [study.get_trials(deepcopy=False, states=FINISHED) for study in studies]
        costs = sorted({trial.values[1] for trials in of_folds for trial in trials})
        lowest = max(min(trial.values[1] for trial in trials) for trials in of_folds)
        rows: list[Mapping[str, float]] = []
        before: list[optuna.trial.FrozenTrial] | None = None
        for cost in (c for c in costs if c >= lowest):
            best = [max((t for t in ts if t.values[1] <= cost), key=lambda t: t.values[0]) for ts in of_folds]
            if best == before:
                continue
            before = best
            records = self._held_out(cases, fold_of, [self._made(trial) for trial in best], scorers)
            found = quality_of(self.metric, records)
            used = float(np.mean([trial.values[1] for trial in best]))
            rows.append(
                {"budget": cost, "images": used, "quality": found.mean, "low": found.low, "high": found.high}
            )
        return rows


def _scorer(choice: Choice, scorers: Mapping[str, Any]) -> Scorer:
    return built_scorer(choice.scorer, scorers[choice.scorer], choice.settings)


def _cut(cases: Sequence[Case], choice: Choice) -> Sequence[Case]:
    return [case.cut(**choice.budget) for case in cases] if choice.budget else cases
