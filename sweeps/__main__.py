"""Searches settings with Optuna, and judges what it finds on neurons that had no say in the choice.

    dnr-bench study study=scoring n_trials=500   which scoring function, with which settings? (no model runs)
    dnr-bench study study=budget n_trials=500    how good are labels of fewer candidates and images?
    dnr-bench study study=pipeline n_trials=20   blur, exemplars, crops, refinement: every trial is a run

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
from rich.box import SIMPLE_HEAD
from rich.table import Table as RichTable

from dnr_bench.app.command_line import CommandParser, exit_code_of
from dnr_bench.app.configuration import load_config, resolved, searched
from dnr_bench.app.main import prepare_process
from dnr_bench.app.parts import PartBuilder
from dnr_bench.app.record import open_tracker
from dnr_bench.infra.digests import digest
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.shipped import config_members
from dnr_bench.outputs.console import console, escaped, print_link
from dnr_bench.statistics.intervals import Estimate
from sweeps.plots import figures
from sweeps.results import Row, StudyResult
from sweeps.storage import Studies, shown

#: Trials, workers, seeds.
_MOST = 10_000_000
#: Settings that say where and how long, and not what.
_ELSEWHERE = (
    "paths", "n_trials", "worker", "storage", "study", "seed", "debug", "experiment_name", "hydra", "mlflow",
    "report", "tracking",
)  # fmt: skip


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
    kind = next((word.split("=", 1)[1] for word in overrides if word.startswith("study=")), "scoring")
    name = f"{kind}-{_identity(config, study)}"
    mlruns = Path(config.paths.mlruns)
    where = config.storage or mlruns / "studies" / f"{name}.journal"
    result = study.run(config, overrides, Studies(where, config.seed, config.worker), name, config.n_trials)
    out = console()
    out.print(_table(result))
    command = shlex.join([*_of_run(overrides, result.best), *result.best])
    out.print(f"  chosen on all neurons: [bold]python -m dnr_bench {escaped(command)}[/bold]", soft_wrap=True)
    out.print(f"  the study is kept in {shown(where)}\n", soft_wrap=True)

    tracker = open_tracker(config)
    nested = len(result.trials) if config.mlflow.trials == "all" else config.mlflow.trials
    run_id = tracker.log_study(
        " ".join(["sweeps", *(word for word in overrides if not word.startswith("storage="))]),
        started,
        params={"study": kind, "metric": result.metric, "n_trials": config.n_trials, **_params(result.best)},
        metrics=_metrics(result),
        tables={
            "held_out": [row.flat() for row in result.rows],
            "trials": result.trials,
            "curve": result.curve,
        },
        figures=figures(result.study),
        trials=sorted(result.trials, key=_value, reverse=True)[:nested],
    )
    print_link(tracker.place, run_id, tracker.experiment_id, out)
    return 0


def _check(config: DictConfig) -> None:
    """Raises `UsageError` for what would end a study late."""
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


def _metrics(result: StudyResult) -> dict[str, float]:
    """The metrics by which studies are compared in MLflow."""
    found = {
        "held_out": result.rows[0].quality.mean,
        "held_out.low": result.rows[0].quality.low,
        "held_out.high": result.rows[0].quality.high,
        "tuning": result.tuning_quality,
        "trials": float(len(result.trials)),
    }
    gains = {f"gain_over.{row.name}": row.gain.mean for row in result.rows if row.gain}
    return {name.replace(" ", "_"): value for name, value in (found | gains).items()}


def _value(trial: Mapping[str, object]) -> float:
    value = trial.get("value")
    return value if isinstance(value, float) else -1.0


def _table(result: StudyResult) -> RichTable:
    table = RichTable(
        title=f"{result.name}: {result.metric} of held-out neurons", title_justify="left", box=SIMPLE_HEAD
    )
    for name in ("settings", "mean (95% interval)", "the study's gain over it", "P"):
        table.add_column(name, justify="left" if name == "settings" else "right", no_wrap=True)
    for row in result.rows:
        table.add_row(row.name, _interval(row.quality), *_gain(row))
    for point in result.curve:
        quality = f"[bold]{point['quality']:.3f}[/bold] ({point['low']:.2f}–{point['high']:.2f})"
        table.add_row(f"[dim]at most {point['budget']:.0f} images per neuron[/dim]", quality, "", "")
    table.caption = (
        f"settings are chosen on other neurons, where they reach {result.tuning_quality:.3f};"
        " P: sign flips over neurons, adjusted (Holm)"
    )
    table.caption_justify = "left"
    return table


def _interval(found: Estimate) -> str:
    return f"[bold]{found.mean:.3f}[/bold] ({found.low:.2f}–{found.high:.2f})"


def _gain(row: Row) -> tuple[str, str]:
    if row.gain is None:
        return "", ""
    return f"{row.gain.mean:+.3f} ({row.gain.low:+.2f} to {row.gain.high:+.2f})", f"{row.p_holm:.2g}"


if __name__ == "__main__":
    prepare_process()
    sys.exit(exit_code_of(lambda: main(sys.argv[1:]), sys.argv[1:]))
