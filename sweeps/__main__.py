"""Searches settings with Optuna, and judges what it finds on neurons that had no say in the choice.

    dnr-bench study                              alpha, k, beta, t of each scoring function of the papers
    dnr-bench study study=scoring                which scoring function, and which settings? (no model runs)
    dnr-bench study study=budget                 how good are labels of fewer candidates and images?
    dnr-bench study study=pipeline n_trials=60   all settings before scoring as well: trials are runs

Any setting of a run may follow (generator=renderer 'neurons.layers=[concepts]' ...), and of the study
(study.metric=planted.exact study.folds=10). The same command goes on with what a killed one has left; with
storage=sqlite:///study.db and worker=1, worker=2 ... several processes share one study.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from omegaconf import DictConfig

from dnr_bench.app.command_line import CommandParser, exit_code_of
from dnr_bench.app.composition import load_config, resolved, searched
from dnr_bench.app.main import prepare_process
from dnr_bench.app.parts import PartBuilder
from dnr_bench.app.record import open_tracker
from dnr_bench.infra.digests import digest
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.shipped import config_members
from dnr_bench.outputs.terminal.console import console, duration, escaped, print_link
from dnr_bench.results.settings import MANNERS, PLACES
from sweeps.results import StudyResult
from sweeps.storage import Studies, shown

#: Trials, workers, seeds.
_MOST = 10_000_000
#: Settings that say where and how long, and not what.
_ELSEWHERE = (*MANNERS, *PLACES, "n_trials", "worker", "storage", "study", "seed", "mlflow")


@runtime_checkable
class Study(Protocol):
    """A search over settings."""

    settings: dict[str, object]

    def run(
        self, config: DictConfig, overrides: Sequence[str], studies: Studies, name: str, n_trials: int
    ) -> StudyResult:
        """Run what is missing of `n_trials`, and judge what was chosen."""


def main(words: Sequence[str]) -> int:
    """Compose, search, print, log."""
    members = ", ".join(path.stem for path in config_members("study"))
    parser = CommandParser("study", f"{__doc__}\nstudies: {members}")
    parser.add_settings()
    arguments = parser.parse_args(words)
    overrides, started = [*arguments.overrides, *searched(arguments.config_dir)], time.time()
    config = load_config(*overrides, name="sweep")
    _check(config)
    study = PartBuilder(config).part("study", Study)
    kind = next((word.split("=", 1)[1] for word in overrides if word.startswith("study=")), "papers")
    name = f"{kind}-{_identity(config, study)}"
    mlruns = Path(config.paths.mlruns)
    where = config.storage or mlruns / "studies" / f"{name}.journal"
    typed = shlex.join(["dnr-bench", "study", *(w for w in overrides if not w.startswith("storage="))])
    studies = Studies(where, config.seed, config.worker, typed)
    out = console()
    out.rule(escaped(f"dnr_bench: study {kind}, {config.n_trials} trials"), align="left")
    result = study.run(config, overrides, studies, name, config.n_trials)
    for table in result.shown:
        out.print(table)
    for advice in result.recommended:
        command = shlex.join([*_of_run(overrides, advice.overrides), *advice.overrides])
        out.print(f"  {escaped(advice.purpose)}:", soft_wrap=True)
        out.print(f"    [bold]dnr-bench {escaped(command)}[/bold]", soft_wrap=True)
    out.print(f"  the study is kept in {escaped(shown(where))}; optuna-dashboard shows it\n", soft_wrap=True)

    tracker = open_tracker(config)
    nested = len(result.trials) if config.mlflow.trials == "all" else config.mlflow.trials
    run_id = tracker.log_study(
        typed,
        started,
        params={"study": kind, "metric": result.metric, "n_trials": config.n_trials, **_params(result.best)},
        metrics={"trials": float(len(result.trials)), **result.metrics},
        tables={
            "held_out": [row.flat() for row in result.rows],
            "trials": result.trials,
            "recommended": [
                {"purpose": r.purpose, "command": shlex.join(["dnr-bench", *r.overrides])}
                for r in result.recommended
            ],
            **result.tables,
        },
        figures=result.figures,
        trials=sorted(result.trials, key=_value, reverse=True)[:nested],
    )
    out.print(f"{len(result.trials)} trials in {duration(time.time() - started)}\n")
    print_link(tracker.place, run_id, tracker.experiment_id, out)
    return 0


def _check(config: DictConfig) -> None:
    """Raises `UsageError` for what would end a study late."""
    if config.shard is not None:
        raise UsageError(
            f"shard={config.shard} is for runs; workers share a study by their numbers: worker=1"
        )
    for name, low in (("n_trials", 1), ("worker", 0), ("seed", 0)):
        if type(config[name]) is not int or not low <= config[name] <= _MOST:
            raise UsageError(
                f"{name}={config[name]} must be a number of at least {low}, and at most {_MOST:,}"
            )
    nested = config.mlflow.trials
    if nested != "all" and (type(nested) is not int or nested < 0):
        raise UsageError(f"mlflow.trials={nested} must be all, or a number of at least 0")


def _identity(config: DictConfig, study: Study) -> str:
    """Names what the trials depend on: a study goes on only where that is the same."""
    settings = {name: value for name, value in resolved(config).items() if name not in _ELSEWHERE}
    return digest({"seed": config.seed, "study": study.settings, "run": settings})[:8]


def _of_run(overrides: Sequence[str], best: Sequence[str]) -> list[str]:
    """The overrides that a run needs as well: what it describes, without what the study chose or is told."""
    chosen = {word.partition("=")[0] for word in best}
    return [
        word
        for word in overrides
        if (key := word.lstrip("+~").partition("=")[0]) not in chosen
        and key.partition(".")[0] not in _ELSEWHERE
    ]


def _params(best: Sequence[str]) -> dict[str, str]:
    return {f"best.{name}": value for name, value in (word.split("=", 1) for word in best)}


def _value(trial: Mapping[str, object]) -> float:
    value = trial.get("value")
    return value if isinstance(value, float) else -1.0


if __name__ == "__main__":
    prepare_process()
    sys.exit(exit_code_of(lambda: main(sys.argv[1:]), sys.argv[1:]))
