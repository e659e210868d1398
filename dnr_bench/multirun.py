"""A multirun is one parent run in MLflow; its jobs are nested under it and compared at the end."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.console import Console

from dnr_bench.summary import print_comparison

#: Carries the parent's id to the jobs, wherever a launcher runs them.
PARENT_VARIABLE = "DNR_BENCH_PARENT_RUN"
_SHOWN_METRICS = (
    "planted.exact",
    "planted.attribute_f1",
    "planted.truth_in_candidates",
    "planted.chosen_given_present",
    "planted.reciprocal_rank",
    "fc_layer.clip_cos",
)


class ParentRun(Callback):
    """Opens the parent before the first job, and closes it with a comparison after the last."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Hydra calls this before the first job."""
        from dnr_bench.tracking import Tracker

        name = " ".join(config.hydra.overrides.task) or "multirun"
        parent = Tracker(Path(config.paths.mlruns), config.experiment_name).start_parent(name)
        os.environ[PARENT_VARIABLE] = parent

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Hydra calls this after the last job."""
        close_parent(Path(config.paths.mlruns), config.experiment_name, Path(config.hydra.sweep.dir))


def close_parent(mlruns: Path, experiment: str, sweep: Path) -> None:
    """Close the open parent, if there is one, with what its jobs have written."""
    parent = os.environ.pop(PARENT_VARIABLE, None)
    if parent is None:
        return
    from dnr_bench.tracking import Tracker

    rows = [_row(folder) for folder in job_folders(sweep)]
    failed = not rows or any(row["status"] != "finished" for row in rows)
    tracker = Tracker(mlruns, experiment)
    tracker.finish_parent(parent, rows, failed)
    console = Console()
    if rows:
        print_comparison(rows, console)
    console.print(f"parent run in MLflow: {parent}")


def job_folders(sweep: Path) -> list[Path]:
    """The folders of a multirun's jobs in order."""
    return sorted((path for path in sweep.glob("*") if path.name.isdigit()), key=lambda path: int(path.name))


def write_outcome(folder: Path, overrides: Sequence[str], failure: str | None) -> None:
    """Note beside a job's results how it went, for the comparison at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    outcome = {"overrides": list(overrides), "failure": failure}
    (folder / "outcome.json").write_text(json.dumps(outcome, indent=1) + "\n")


def _row(folder: Path) -> dict[str, Any]:
    outcome_path, result_path = folder / "outcome.json", folder / "result.json"
    outcome = json.loads(outcome_path.read_text()) if outcome_path.exists() else None
    row: dict[str, Any] = {"job": int(folder.name)}
    if outcome:
        row |= dict(override.split("=", 1) for override in outcome["overrides"])
    if outcome is None or outcome["failure"] is not None:
        reason = outcome["failure"].splitlines()[0] if outcome else "interrupted"
        return {**row, "status": f"failed: {reason}"}
    result: Mapping[str, Any] = json.loads(result_path.read_text())
    metrics = {name: result["metrics"][name]["mean"] for name in _SHOWN_METRICS if name in result["metrics"]}
    computed = sum(stage["misses"] for stage in result["stages"].values())
    return {**row, "status": "finished", **metrics, "computed": computed, "seconds": result["seconds"]}
