"""Where studies are kept, so that a killed one goes on and several processes share one."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
import optuna
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random

from dnr_bench.infra.errors import RunError
from sweeps.space import Value

Direction = Literal["minimize", "maximize"]
Objective = Callable[[optuna.Trial], float | Sequence[float]]
#: States of trials that count; a trial that was killed stays unfinished for ever.
_DONE = (TrialState.COMPLETE, TrialState.PRUNED)
FINISHED = (TrialState.COMPLETE,)
#: Characters of a name of a metric, in places that show it.
_LONGEST = 60


@dataclass(frozen=True)
class Studies:
    """Opens studies in a journal file or at an Optuna URL; `worker` tells processes on one study apart.

    command: what people typed, for those who look at a study; without secrets.
    """

    where: str | Path
    seed: int
    worker: int
    command: str = ""

    def open(
        self,
        name: str,
        number: int,
        directions: Sequence[Direction],
        metrics: Sequence[str],
    ) -> optuna.Study:
        """The study of this name, new or as it was left, with a seeded TPE sampler.

        metrics: the names of what is maximized or minimized, for people who look at it.
        """
        logging.getLogger("optuna").setLevel(logging.WARNING)
        try:
            study = self._created(name, directions)
            with _quiet():
                study.set_metric_names([name[:_LONGEST] for name in metrics])
            study.set_user_attr("command", self.command)
        except (ValueError, OSError, ImportError, SQLAlchemyError) as error:
            reason = str(error).replace(str(self.where), shown(self.where)).splitlines()[0]
            raise RunError(f"storage={shown(self.where)} cannot hold the study {name}: {reason}") from error
        # a sampler that began anew would try again what was tried before the interruption
        seeds = np.random.SeedSequence([self.seed, number, self.worker, len(study.trials)])
        with _quiet():
            seed = int(seeds.generate_state(1)[0])
            study.sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)
        return study

    @retry(
        retry=retry_if_exception_type((IntegrityError, ProgrammingError)),
        stop=stop_after_attempt(5),
        wait=wait_random(0.5, 2),
        reraise=True,
    )
    def _created(self, name: str, directions: Sequence[Direction]) -> optuna.Study:
        """The study; workers that start together may make a database's tables at the same moment."""
        return optuna.create_study(
            storage=self._storage(), study_name=name, directions=list(directions), load_if_exists=True
        )

    def _storage(self) -> optuna.storages.BaseStorage | str:
        if isinstance(self.where, str):
            return self.where
        try:
            self.where.parent.mkdir(parents=True, exist_ok=True)
            return optuna.storages.JournalStorage(JournalFileBackend(str(self.where)))
        except OSError as error:
            raise RunError(f"the study cannot be kept in {self.where}: {error.strerror or error}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings of what Optuna calls experimental: names of metrics, multivariate TPE, groups."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def shown(where: str | Path) -> str:
    """A storage for people's eyes: without its password."""
    try:
        return str(where) if isinstance(where, Path) else make_url(where).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return "the given address"


def finish(
    study: optuna.Study, objective: Objective, n_trials: int, advance: Callable[[int], object]
) -> None:
    """Run trials until the study has `n_trials`, by whichever process; killed trials do not count."""
    have = done(study)
    advance(have)

    def after(_study: optuna.Study, _trial: optuna.trial.FrozenTrial) -> None:
        advance(1)

    study.optimize(
        objective,
        n_trials=max(n_trials - have, 0),
        callbacks=[optuna.study.MaxTrialsCallback(n_trials, states=_DONE), after],
    )


def fill_grid(
    study: optuna.Study,
    grid: Mapping[str, Sequence[Value]],
    evaluate: Callable[[Mapping[str, Value]], tuple[float, dict[str, object]]],
    n_points: int,
    seed: int,
    advance: Callable[[int], object],
) -> None:
    """Evaluate what is missing of a grid, in random order, until the study has `n_points` of its points.

    A point becomes a trial when it is finished, so that one that was interrupted is missing still.
    """
    points = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    ranges = {
        name: optuna.distributions.CategoricalDistribution(list(values)) for name, values in grid.items()
    }
    advance(len(distinct(study)))
    for place in np.random.default_rng(seed).permutation(len(points)):
        have = [trial.params for trial in distinct(study)]  # further processes may add to it
        if len(have) >= n_points or points[place] in have:
            continue
        value, notes = evaluate(points[place])
        study.add_trial(
            optuna.trial.create_trial(
                params=points[place], distributions=dict(ranges), value=value, user_attrs=notes
            )
        )
        advance(1)


def distinct(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """The finished trials, of those with the same settings the first."""
    found = reversed(study.get_trials(deepcopy=False, states=FINISHED))
    return list({tuple(sorted(trial.params.items())): trial for trial in found}.values())[::-1]


def done(study: optuna.Study) -> int:
    """How many trials of a study ended well or were pruned."""
    return len(study.get_trials(deepcopy=False, states=_DONE))


def best_of(study: optuna.Study) -> optuna.trial.FrozenTrial:
    """The trial of the highest quality; the earliest where several have it."""
    return max(study.get_trials(deepcopy=False, states=FINISHED), key=lambda trial: trial.values[0])


def together(studies: Sequence[optuna.Study]) -> optuna.Study:
    """All finished trials in one study in memory, for plots."""
    merged = optuna.create_study(directions=studies[0].directions)
    for study in studies:
        merged.add_trials(study.get_trials(deepcopy=False, states=_DONE))
    return merged
