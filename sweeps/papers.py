"""The study of alpha, K and beta: each scoring function of the papers tuned by itself, over its whole grid.

Every point of a grid is evaluated on all neurons, from stored evidence. Neurons are dealt to folds: for each
fold the setting that is best on all others is judged on this one, beside the papers' setting. So the gain is
one of neurons that had no say, and the grid is also the response curve (or surface) of the metric.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import optuna
from omegaconf import DictConfig, OmegaConf

from dnr_bench.data.neuron import Neuron
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.ranges import check_range
from dnr_bench.statistics.paired import Records, difference, holm
from sweeps.evidence import Case, outcome
from sweeps.judging import answered, built_scorer, folds_of, gathered, scorer_node
from sweeps.plots import response_figure
from sweeps.progress import counted
from sweeps.results import Recommendation, Row, StudyResult, quality_of, trial_rows
from sweeps.space import Range, Value, grid, scorer_overrides, scorer_space, told
from sweeps.storage import Studies, distinct, done, fill_grid
from sweeps.tables import tuned_table

Settings = Mapping[str, Value]
#: P values below this are no chance.
_LEVEL = 0.05


@dataclass(frozen=True)
class Tuned:
    """A scoring function with its grid, tuned.

    papers: the settings of the papers. best: the best settings on all neurons. row: how tuned settings do on
    held-out neurons. response: the metric with its interval at every point of the grid.
    """

    scorer: str
    papers: Settings
    best: Settings
    row: Row
    response: Sequence[Mapping[str, object]]

    @property
    def is_better(self) -> bool:
        """Whether tuning gains more than chance, for as many scoring functions as the study has."""
        return self.row.gain is not None and self.row.gain.mean > 0 and self.row.p_holm < _LEVEL

    @property
    def recommended(self) -> Settings:
        """The best settings where tuning gains, else the papers'."""
        return self.best if self.is_better else self.papers

    @property
    def quality(self) -> float:
        """What the recommended settings reach."""
        found = self.row.quality if self.is_better or self.row.given is None else self.row.given
        return found.mean

    @property
    def command(self) -> tuple[str, ...]:
        """The recommended settings as overrides of a run."""
        return scorer_overrides(self.scorer, self.recommended)


class PapersStudy:
    """`space`: a list of {scorer: {setting: range}}, of which every combination is tried.

    `judge`: settings of the metric's evaluator while it judges candidates, as far as it has them.
    """

    def __init__(
        self,
        metric: str,
        seeds: Sequence[int],
        folds: int,
        judge: Mapping[str, Any],
        space: Sequence[Mapping[str, Mapping[str, Range]]],
    ) -> None:
        check_range(2, 1000, folds=folds)
        self.space = scorer_space(seeds, space)
        for scorer, settings in self.space.items():
            if not settings:
                raise UsageError(f"space.{scorer} is empty: name at least one setting with its range")
            if len(settings) > 2 or any(isinstance(v, str) for given in settings.values() for v in given):
                raise UsageError(
                    f"space.{scorer}={settings} must have one or two settings, numbers, as it is drawn as a"
                    " curve or surface; study=scoring searches any"
                )
        self.metric, self.seeds, self.folds, self.judge = metric, list(seeds), folds, dict(judge)

    @property
    def settings(self) -> dict[str, object]:
        """The settings of the trials, beside those of the runs."""
        return {
            "metric": self.metric,
            "seeds": self.seeds,
            "folds": self.folds,
            "judge": self.judge,
            "space": self.space,
        }

    def run(
        self, config: DictConfig, overrides: Sequence[str], studies: Studies, name: str, n_trials: int
    ) -> StudyResult:
        """Gather the evidence, evaluate each grid (or a random part of it), and judge what is best."""
        nodes = {scorer: scorer_node(scorer, overrides) for scorer in self.space}
        grids = {scorer: {n: grid(r) for n, r in ranges.items()} for scorer, ranges in self.space.items()}
        for scorer, node in nodes.items():
            for values in (dict(zip(grids[scorer], ends, strict=True)) for ends in _ends(grids[scorer])):
                built_scorer(scorer, node, values)  # so that a wrong setting is told before the evidence
        cases = gathered(config, self.metric, self.judge, self.seeds, self.folds)
        fold_of = folds_of([case.neuron for case in cases], self.folds, studies.seed)
        sizes = {scorer: int(np.prod([len(v) for v in values.values()])) for scorer, values in grids.items()}
        opened: dict[str, optuna.Study] = {}
        with counted(min(n_trials, sum(sizes.values()))) as advance:
            for number, (scorer, points) in enumerate(grids.items()):
                share = min(sizes[scorer], -(-n_trials * sizes[scorer] // sum(sizes.values())))
                study = studies.open(f"{name}-{scorer}", number, ["maximize"], [self.metric])
                evaluate = self._evaluation(scorer, nodes[scorer], cases, fold_of)
                fill_grid(study, points, evaluate, share, studies.seed, advance)
                opened[scorer] = study
        if not all(done(study) for study in opened.values()):
            raise UsageError(f"n_trials={n_trials} is too few: each scoring function needs one")
        tuned = [
            self._tuned(scorer, study, nodes[scorer], grids[scorer], cases, fold_of)
            for scorer, study in opened.items()
        ]
        return self._result(name, _adjusted(tuned), list(opened.values()))

    def _evaluation(
        self, scorer: str, node: DictConfig, cases: Sequence[Case], fold_of: Mapping[Neuron, int]
    ) -> Callable[[Settings], tuple[float, dict[str, object]]]:
        """Gives the quality of settings over all neurons, and what a trial notes of them."""
        folds = np.asarray([fold_of[case.neuron] for case in cases])

        def evaluate(chosen: Settings) -> tuple[float, dict[str, object]]:
            quality = outcome(cases, built_scorer(scorer, node, chosen)).quality
            by_fold = [float(quality[folds == fold].sum()) for fold in range(self.folds)]
            return float(quality.mean()), {
                "command": " ".join(scorer_overrides(scorer, chosen)),
                "by_fold": by_fold,
            }

        return evaluate

    def _tuned(
        self,
        scorer: str,
        study: optuna.Study,
        node: DictConfig,
        points: Mapping[str, Sequence[Value]],
        cases: Sequence[Case],
        fold_of: Mapping[Neuron, int],
    ) -> Tuned:
        trials = distinct(study)
        tried = [dict(trial.params) for trial in trials]
        by_fold = np.asarray([trial.user_attrs["by_fold"] for trial in trials])
        whole = by_fold.sum(axis=1)
        papers = {name: OmegaConf.select(node, name) for name in points}
        far = [_distance(settings, papers, points) for settings in tried]
        held_out: dict[Any, Any] = {}
        for fold in range(self.folds):
            chosen = tried[_best(whole - by_fold[:, fold], far)]
            mine = [case for case in cases if fold_of[case.neuron] == fold]
            held_out |= answered(self.metric, mine, built_scorer(scorer, node, chosen))
        given = answered(self.metric, cases, built_scorer(scorer, node, papers))
        best = tried[_best(whole, far)]
        gain = difference(self.metric, given, held_out)
        row = Row(
            _named(scorer, best),
            quality_of(self.metric, held_out),
            gain,
            float("nan") if gain is None else gain.p,
            quality_of(self.metric, given),
        )
        response = [self._point(scorer, node, settings, cases, papers, best) for settings in tried]
        return Tuned(scorer, papers, best, row, response)

    def _point(
        self,
        scorer: str,
        node: DictConfig,
        settings: Settings,
        cases: Sequence[Case],
        papers: Settings,
        best: Settings,
    ) -> Mapping[str, object]:
        """A point of the response: the metric on all neurons, with its interval."""
        records: Records = answered(self.metric, cases, built_scorer(scorer, node, settings))
        found = quality_of(self.metric, records)
        return {
            "scorer": scorer,
            **settings,
            **{key: value for key, value in asdict(found).items() if key != "n"},
            "papers": dict(settings) == dict(papers),
            "best": dict(settings) == dict(best),
        }

    def _result(self, name: str, tuned: Sequence[Tuned], studies: Sequence[optuna.Study]) -> StudyResult:
        order = sorted(tuned, key=lambda found: -found.quality)
        rows = tuple(found.row for found in tuned)
        return StudyResult(
            name=name,
            metric=self.metric,
            recommended=tuple(Recommendation(_purpose(found), found.command) for found in order),
            rows=rows,
            tables={"response": [point for found in tuned for point in found.response]},
            metrics={
                f"{found.scorer}.{what}": value
                for found in tuned
                for what, value in _figures_of(found.row).items()
            },
            trials=trial_rows(studies),
            figures={
                f"response_{found.scorer}": response_figure(found.scorer, self.metric, found.response)
                for found in tuned
            },
            shown=(tuned_table(f"{name}: {self.metric} of held-out neurons", rows),),
        )


def _adjusted(tuned: Sequence[Tuned]) -> list[Tuned]:
    """With P values that allow for the number of scoring functions."""
    adjusted = holm([found.row.p_holm for found in tuned])
    return [
        replace(found, row=replace(found.row, p_holm=p)) for found, p in zip(tuned, adjusted, strict=True)
    ]


def _best(quality: np.ndarray, far: Sequence[float]) -> int:
    """The place of the best setting; of equals the one nearest to the papers'."""
    top = float(quality.max())
    equals = [i for i, value in enumerate(quality) if value >= top - 1e-9]
    return min(equals, key=lambda i: far[i])


def _distance(settings: Settings, papers: Settings, points: Mapping[str, Sequence[Value]]) -> float:
    """How far settings are from the papers', in steps of the grid."""
    places = {name: list(values) for name, values in points.items()}
    return float(
        sum(
            abs(places[name].index(value) - _nearest(papers[name], places[name]))
            for name, value in settings.items()
        )
    )


def _nearest(value: Value, values: Sequence[Value]) -> int:
    """The place of a value in a grid, or of the number next to it."""
    return int(np.argmin([abs(float(other) - float(value)) for other in values]))


def _ends(points: Mapping[str, Sequence[Value]]) -> list[tuple[Value, ...]]:
    """The corners of a grid."""
    return list(product(*((values[0], values[-1]) for values in points.values())))


def _named(scorer: str, settings: Settings) -> str:
    return f"{scorer} {' '.join(f'{name}={told(value)}' for name, value in settings.items())}"


def _purpose(found: Tuned) -> str:
    if found.is_better:
        return f"{found.scorer}, tuned"
    return f"{found.scorer}, as in the papers: nothing gains more than chance"


def _figures_of(row: Row) -> dict[str, float]:
    gain = {"gain": row.gain.mean, "gain.low": row.gain.low, "gain.high": row.gain.high} if row.gain else {}
    return {"held_out": row.quality.mean, **({"papers": row.given.mean} if row.given else {}), **gain}
