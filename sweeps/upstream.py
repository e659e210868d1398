"""The study of settings before scoring, too: every trial is a whole run, from what is stored.

Half of the neurons choose, the other half judges. Trials take their seeds one after the other, so that one
that falls behind the others is stopped early.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from omegaconf import DictConfig
from tqdm import tqdm

from dnr_bench.app.configuration import build_run, load_config
from dnr_bench.app.run import run
from dnr_bench.data.neuron import Neuron
from dnr_bench.infra.errors import UsageError
from dnr_bench.statistics.paired import Records, ScoredItem
from sweeps.evidence import check_metric
from sweeps.results import StudyResult, rows_of, trial_rows
from sweeps.scoring import folds_of
from sweeps.space import Range, check_search_range, suggest_all, told
from sweeps.storage import FINISHED, Objective, Studies, best_of, finish, together

AS_GIVEN = "the settings as given"


class UpstreamStudy:
    """`space`: a list of {value or group of a run: range}."""

    def __init__(self, metric: str, seeds: Sequence[int], space: Sequence[Mapping[str, Range]]) -> None:
        if not seeds or not space:
            raise UsageError("seeds and space must not be empty")
        self.metric, self.seeds = metric, list(seeds)
        self.space = {name: list(given) for part in space for name, given in part.items()}
        for name, given in self.space.items():
            check_search_range(f"space.{name}", given)

    @property
    def settings(self) -> dict[str, object]:
        """The settings of the trials, beside those of the runs."""
        return {"metric": self.metric, "seeds": self.seeds, "space": self.space}

    def run(
        self, config: DictConfig, overrides: Sequence[str], studies: Studies, name: str, n_trials: int
    ) -> StudyResult:
        """Run what is missing of the trials, and judge the best one on the neurons that did not choose it."""
        pruner = optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=0)
        study = studies.open(name, 0, ["maximize"], pruner)
        with tqdm(total=n_trials, desc="trials", unit="trial", disable=None, leave=False) as bar:
            finish(study, self._objective(overrides, studies.seed), n_trials, bar.update)
        if not study.get_trials(deepcopy=False, states=FINISHED):
            raise UsageError(f"n_trials={n_trials}: no trial ran to its end")
        best = best_of(study)
        held_out = _records(best.user_attrs["held_out"], self.metric)
        given = self._as_given(overrides, studies.seed)
        return StudyResult(
            name=name,
            metric=self.metric,
            best=tuple(best.user_attrs["overrides"]),
            tuning_quality=float(best.values[0]),
            rows=rows_of(self.metric, held_out, {AS_GIVEN: given}),
            curve=(),
            trials=trial_rows([study]),
            study=together([study]),
        )

    def _objective(self, overrides: Sequence[str], seed: int) -> Objective:
        def objective(trial: optuna.Trial) -> float:
            chosen = [f"{name}={told(value)}" for name, value in suggest_all(trial, self.space).items()]
            trial.set_user_attr("overrides", chosen)
            tuning: list[float] = []
            held_out: list[dict[str, Any]] = []
            for step, of_seed in enumerate(self.seeds):
                mine, others = self._values([*overrides, *chosen], of_seed, seed)
                tuning += [record["value"] for record in mine]
                held_out += others
                trial.report(float(np.mean(tuning)), step)
                if step + 1 < len(self.seeds) and trial.should_prune():
                    raise optuna.TrialPruned
            trial.set_user_attr("held_out", held_out)
            return float(np.mean(tuning))

        return objective

    def _values(
        self, overrides: Sequence[str], of_seed: int, seed: int
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The values of a run for the neurons that choose, and for those that judge; no label counts as 0."""
        result = run(build_run(load_config(*overrides, f"seed={of_seed}", name="sweep")))
        usable = [n for n, m in result.metrics.items() if m.item_kind == "neuron" and m.higher_is_better]
        check_metric(self.metric, usable)
        judged = [neuron for neuron in result.neurons if self.metric in neuron.values]
        half = folds_of([Neuron(n.layer, n.unit) for n in result.neurons], 2, seed)
        found: list[dict[str, Any]] = [
            {
                "seed": of_seed,
                "layer": neuron.layer,
                "unit": neuron.unit,
                "labels": list(neuron.labels[:1]),
                "value": float(np.nan_to_num(neuron.values[self.metric])),
            }
            for neuron in judged
        ]
        sides = ([r for r in found if half[Neuron(r["layer"], r["unit"])] == side] for side in (0, 1))
        return next(sides), next(sides)

    def _as_given(self, overrides: Sequence[str], seed: int) -> Records:
        held_out = [r for of_seed in self.seeds for r in self._values(overrides, of_seed, seed)[1]]
        return _records(held_out, self.metric)


def _records(values: Sequence[Mapping[str, Any]], metric: str) -> Records:
    return {
        (r["seed"], r["layer"], r["unit"]): ScoredItem(
            f"{r['layer']}:{r['unit']}", r["labels"], {metric: r["value"]}
        )
        for r in values
    }
