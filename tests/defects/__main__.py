"""What small defects cost, and whether the gate catches them: python -m tests.defects --work FOLDER

Each defect is put into a copy of the code, which then describes all 512 units, as +experiment=gate512 does a
sample of them. Its loss is the fall of planted.exact and planted.attribute_f1 against the code as it is,
neuron by neuron and over the seeds. Labels do not depend on which other neurons are described, so that the
gates of many samples are read off these runs: --gates of them, each with a seed and a sample of its own. The
alarms of the code as it is are those of gates whose baseline has another seed. What was run before is kept in
the folder.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from dnr_bench.app.commands.gate import Baseline, verdicts_on
from dnr_bench.app.composition import load_config
from dnr_bench.app.job_sets import code_digest
from dnr_bench.app.neurons import in_proportion
from dnr_bench.infra.planted import read_planted
from dnr_bench.infra.shipped import CONF
from dnr_bench.results.schema import RunResult
from tests.defects.catalog import DEFECTS, Defect

ROOT = Path(__file__).parents[2]
UNCHANGED = "unchanged"
TOLERANCES = Baseline.read(CONF / "baselines" / "shapes512.yaml").tolerances
#: A defect that costs this much is to be caught.
MATTERS = 0.03


def main() -> int:
    """Run what is missing and print the tables; exit code 1 where the gate misses a defect or cries wolf."""
    parser = argparse.ArgumentParser(prog="python -m tests.defects", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="where runs are kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--gates", type=int, default=20, help="for each defect")
    sample = load_config("+experiment=gate512").neurons.sample
    parser.add_argument(
        "--sample", type=int, default=sample, help="units of a gate (default: the gate's own)"
    )
    parser.add_argument("--only", nargs="*", help="names of defects (beginnings will do)")
    given = parser.parse_args()
    chosen = [d for d in DEFECTS if not given.only or d.name.startswith(tuple(given.only))]
    found: dict[str, dict[int, RunResult]] = {}
    for seed in given.seeds:
        for defect in tqdm([None, *chosen], desc=f"seed {seed}"):
            name = defect.name if defect else UNCHANGED
            found.setdefault(name, {})[seed] = described(defect, seed, given.work)
    bad = report(found, given.seeds, given.gates, given.sample)
    return int(bad)


def described(defect: Defect | None, seed: int, work: Path) -> RunResult:
    """The run of all 512 units with this defect; what is there already is read."""
    name = re.sub(r"\W+", "_", defect.name) if defect else UNCHANGED
    folder = work / f"runs-{code_digest(())[:8]}" / f"{name}-{seed}"  # other code has other runs
    if not (folder / "result.json").is_file():
        code = copied(work / "code")
        if defect:
            defect.put_into(code)
        words = [
            "+experiment=gate512", "neurons.sample=null", f"seed={seed}", "report=false", "tracking.uri=sqlite:///:memory:",
            f"paths.store={work / 'store'}", f"paths.mlruns={work / 'mlruns'}", f"hydra.run.dir={folder}",
        ]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": str(code), "TQDM_DISABLE": "1"}
        command = [sys.executable, "-m", "dnr_bench", *words]
        done = subprocess.run(command, cwd=code, env=environment, capture_output=True, text=True, check=False)
        if not (folder / "result.json").is_file():
            raise RuntimeError(f"{name}: {done.stdout[-1000:]} {done.stderr[-3000:]}")
    return RunResult.read(folder)


def copied(folder: Path) -> Path:
    """A fresh copy of the code and the configs; the weights are linked."""
    shutil.rmtree(folder, ignore_errors=True)
    skipped = shutil.ignore_patterns("__pycache__", "checkpoints")
    for name in ("dnr_bench", "evaluators", "conf"):
        shutil.copytree(ROOT / name, folder / name, ignore=skipped)
    weights = Path("dnr_bench") / "shapes" / "checkpoints"
    (folder / weights).symlink_to(ROOT / weights, target_is_directory=True)
    return folder


def sampled(result: RunResult, seed: int, n: int) -> RunResult:
    """The result of a sample of its neurons, each kind with its share."""
    kinds = {planted.neuron: planted.kind for planted in read_planted("embedded:target512")}
    by_name = {str(neuron): kind for neuron, kind in kinds.items()}
    order = in_proportion([by_name[neuron.name] for neuron in result.neurons], np.random.default_rng(seed))
    kept = sorted(order[:n])
    return replace(result, neurons=tuple(result.neurons[place] for place in kept))


def alarm(before: RunResult, after: RunResult) -> bool:
    """Whether the gate would stop this change, with the tolerances that it has."""
    return any(verdict.worse for verdict in verdicts_on(Baseline.of(before, TOLERANCES), after))


def losses(before: RunResult, after: RunResult, metric: str) -> np.ndarray:
    """The fall of each neuron; one that lost its label falls to 0."""
    values = {neuron.name: neuron.values.get(metric, 0.0) for neuron in after.neurons}
    pairs = [
        (neuron.values[metric], values[neuron.name])
        for neuron in before.neurons
        if metric in neuron.values and not np.isnan(neuron.values[metric])
    ]
    return np.asarray([a - (0.0 if np.isnan(b) else b) for a, b in pairs])


def report(found: dict[str, dict[int, RunResult]], seeds: Sequence[int], gates: int, sample: int) -> bool:
    """Print what each defect costs and how often it is caught; whether something went wrong."""
    unchanged = found[UNCHANGED]
    draws = [(seeds[i % len(seeds)], 1000 + i) for i in range(gates)]
    table = Table(
        "defect", "exact", "attribute F1", "caught", title=f"losses, and of {gates} gates of {sample} units"
    )
    bad = False
    for name, of_seed in found.items():
        if name == UNCHANGED:
            continue
        lost = {
            metric: float(np.mean([losses(unchanged[s], of_seed[s], metric).mean() for s in seeds]))
            for metric in ("planted.exact", "planted.attribute_f1")
        }
        caught = sum(
            alarm(sampled(unchanged[s], draw, sample), sampled(of_seed[s], draw, sample)) for s, draw in draws
        )
        missed = max(lost.values()) >= MATTERS and caught < 0.95 * gates
        bad |= missed
        cells = [f"{value:+.3f}" for value in lost.values()]
        table.add_row(name, *cells, f"{caught}", style="bold red" if missed else "")
    out = Console(width=100)
    out.print(table)
    pairs = list(permutations(seeds, 2))
    if pairs:
        cases = [(pairs[i % len(pairs)], 1000 + i) for i in range(gates)]
        wrong = sum(
            alarm(sampled(unchanged[a], draw, sample), sampled(unchanged[b], draw, sample))
            for (a, b), draw in cases
        )
        out.print(f"alarms of unchanged code whose baseline has another seed: {wrong} of {gates}")
        bad |= wrong > 0
    same = sum(
        alarm(sampled(unchanged[s], draw, sample), sampled(unchanged[s], draw, sample)) for s, draw in draws
    )
    out.print(f"alarms of unchanged code with the seed of the baseline: {same} of {gates}")
    return bad or same > 0


if __name__ == "__main__":
    raise SystemExit(main())
