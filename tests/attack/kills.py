"""Seeded kills at random moments, and that nothing is lost, doubled or different afterwards."""

from __future__ import annotations

import json
import random
import shutil
import signal
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from math import isclose
from pathlib import Path
from typing import Any

from tests.attack.children import PATIENCE, Child, Ended, command
from tests.attack.values import TINY
from tests.attack.verdicts import Tally, complaint

RUN = (*TINY, "captioner=blip", "report=true", "evaluator=[planted,fc_layer]")
MULTIRUN = ("-m", *TINY, "scorer=mean,semantic", "blur=0,1", "report=true")
STUDY = (
    "study",
    "study=scoring",
    "n_trials=12",
    "generator=renderer",
    "neurons.layers=[concepts]",
    "neurons.units=[0,9,13,20,27,35,40,50,53]",
    "probe.n_images=60",
    "images_per_concept=2",
    "study.seeds=[0]",
    "study.folds=2",
    "mlflow.trials=2",
)


def findings(folder: Path) -> dict[str, Any]:
    """Labels, scores and metrics of the run in a folder: what must not depend on kills."""
    content = json.loads((folder / "result.json").read_text())
    return {"neurons": content["neurons"], "metrics": content["metrics"]}


def same(one: Any, other: Any) -> bool:
    """Equal texts, and numbers up to the last digits: sums of floats depend on what shared a batch."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return isclose(one, other, rel_tol=1e-5, abs_tol=1e-6)
    return bool(one == other)


def jobs_of(folder: Path) -> list[dict[str, Any]]:
    """The findings of the newest run or multirun below `mlruns`."""
    newest = max((folder / "mlruns" / "runs").iterdir())
    inner = sorted(path for path in newest.iterdir() if path.name.isdigit()) or [newest]
    return [findings(path) for path in inner]


def left_running(folder: Path) -> int:
    """The runs that MLflow takes for open ones."""
    with closing(sqlite3.connect(folder / "mlruns" / "mlflow.db")) as database:
        (found,) = database.execute("SELECT count(*) FROM runs WHERE status = 'RUNNING'").fetchone()
    return int(found)


def killed_series(name: str, words: Sequence[str], seed: int, kills: int, folder: Path, tally: Tally) -> None:
    """Kill a command several times at random moments, let it finish, and hold it against an unbroken one."""
    rng = random.Random(seed)
    whole = Child(command(words), folder / "whole").wait(4 * PATIENCE)
    if wrong := complaint(whole, (0,)):
        tally.note(f"kills of {name}", "the unbroken one", wrong, 0)
        return
    for _ in range(kills):
        number = rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
        ended = Child(command(words), folder / "killed").kill_after(rng.uniform(0, whole.seconds), number)
        allowed = (0, -signal.SIGKILL) if number == signal.SIGKILL else (0, 130, -number)
        tally.note(f"kills of {name}", f"seed {seed}, signal {number}", complaint(ended, allowed))
    last = Child(command(words), folder / "killed").wait(4 * PATIENCE)
    tally.note(f"resumed {name}", f"seed {seed}", _different(name, last, folder))
    shutil.rmtree(folder, ignore_errors=True)


def _different(name: str, last: Ended, folder: Path) -> str | None:
    """What is wrong after the kills; None where nothing is."""
    if wrong := complaint(last, (0,)):
        return wrong
    if open_runs := left_running(folder / "killed"):
        return f"{open_runs} runs are left RUNNING"
    if name == "studies":
        return None if _best(folder / "whole") == _best(folder / "killed") else "another best setting"
    if not same(jobs_of(folder / "whole"), jobs_of(folder / "killed")):
        return "other labels, scores or metrics than without kills"
    return None


def _best(folder: Path) -> list[str]:
    text = (folder / ".out").read_text()
    return [line for line in text.splitlines() if "chosen on all neurons" in line]


def killed_databases(seed: int, kills: int, folder: Path, tally: Tally) -> None:
    """Kill the creation of MLflow's database again and again; the next one must work."""

    def create() -> int:
        from dnr_bench.outputs.mlflow.places import tracking_place
        from dnr_bench.outputs.mlflow.tracker import Tracker

        tracker = Tracker(tracking_place(Path("mlruns")), "bench")
        tracker.end(tracker.start("one"), "FINISHED")
        return 0

    rng = random.Random(seed)
    whole = Child(create, folder / "whole").wait()
    for _ in range(kills):
        ended = Child(create, folder / "killed").kill_after(rng.uniform(0, whole.seconds))
        tally.note("kills of database creation", f"seed {seed}", complaint(ended, (0, -signal.SIGKILL)))
        if rng.random() < 0.5:
            after = Child(create, folder / "killed").wait()
            tally.note("databases after a kill", f"seed {seed}", complaint(after, (0,)))
            shutil.rmtree(folder / "killed" / "mlruns", ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
