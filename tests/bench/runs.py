"""Whole runs of the embedded world: warm against cold, a second scorer, trials, processes side by side."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from dnr_bench.app.composition import load_config
from dnr_bench.app.configuration import build_run
from dnr_bench.methods.describe_and_dissect.method import DescribeAndDissect
from tests.bench.rows import Row, interleaved, seconds
from tests.conftest import ROOT

_SMALL = ("probe.n_images=1000", "images_per_concept=3", "neurons.layers=[concepts]", "neurons.sample=30")


def command(words: Sequence[str], folder: Path, **environment: str) -> subprocess.Popen[bytes]:
    """A run of the command line in a folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "dnr_bench", *_SMALL, *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TQDM_DISABLE": "1"} | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def finished(*runs: subprocess.Popen[bytes]) -> None:
    """Wait for runs; one that failed ends the benchmark."""
    if any(run.wait() for run in runs):
        raise RuntimeError("a run of the benchmark failed")


def runs(folder: Path) -> list[Row]:
    """Rows on whole runs."""
    one = folder / "one"
    cold = seconds(lambda: finished(command([], one)))
    warm, second = interleaved(
        [
            lambda: seconds(lambda: finished(command([], one))),
            lambda: seconds(lambda: finished(command(["scorer=semantic"], one))),
        ]
    )
    rows = [
        Row("run: warm / cold", warm / cold, "", warm, cold, "s", "the same command again"),
        Row("run: second scorer / first", second / cold, "", second, cold, "s", "scorer=semantic"),
        _trial(one / "mlruns" / "store", cold),
    ]
    start = time.perf_counter()
    finished(*(command([], folder / "both", OMP_NUM_THREADS="1") for _ in range(2)))
    both = time.perf_counter() - start
    shutil.rmtree(folder / "both")
    alone = seconds(lambda: finished(command([], folder / "alone")))
    return [*rows, Row("run: two processes on one store / one", both / alone, "", both, alone, "s",
                       "both start at once; each prints all labels")]  # fmt: skip


def _trial(store: Path, run: float) -> Row:
    """Scoring all neurons once more from evidence that is in memory, as a trial of a study does."""
    config = build_run(load_config(*_SMALL, f"paths.store={store}", "scorer=semantic", "evaluator=[]"))
    session = config.session()
    method = config.method
    assert isinstance(method, DescribeAndDissect)
    pools = {e.neuron: [c.text for c in e.candidates] for e in method.explain(config.neurons, session)}
    evidence = session.evidence(pools, needs=method.scorer.needs)
    taken = interleaved([lambda: seconds(lambda: [method.scorer.score(e) for e in evidence.values()])], 9)[0]
    return Row("trial of a study / run", taken / run, "", taken, run, "s", f"{len(evidence)} neurons scored")
