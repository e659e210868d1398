"""How often the gate errs: `python -m dnr_bench.shapes.check_gate`, about 20 minutes on two cores.

An unchanged pipeline with another seed (other probing images, other drawings) must pass; the same run with
the labels of one neuron in five swapped for another unit's must not.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from tqdm import tqdm

from dnr_bench.app.commands.gate import Baseline, verdicts_on
from dnr_bench.app.composition import load_config
from dnr_bench.app.configuration import build_run
from dnr_bench.app.parts import PartBuilder
from dnr_bench.app.run import RunConfig, run
from dnr_bench.infra.shipped import CONF
from dnr_bench.results.schema import RunResult
from dnr_bench.session import Method

SWAPPED_SHARE = 0.2


def swapped(
    result: RunResult, seed: int, config: RunConfig, folder: Path, share: float = SWAPPED_SHARE
) -> RunResult:
    """The run with the labels of this share of labeled neurons dealt to another of them, judged anew."""
    rng = np.random.default_rng([13, seed])
    labeled = [neuron for neuron in result.neurons if neuron.labels]
    chosen = rng.permutation(len(labeled))[: round(share * len(labeled))]
    labels = [neuron.labels[0] for neuron in labeled]
    for place, source in zip(chosen, np.roll(chosen, 1), strict=True):
        labels[place] = labeled[source].labels[0]
    path = folder / "labels.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["layer", "unit", "label"])
        writer.writerows(
            [neuron.layer, neuron.unit, label] for neuron, label in zip(labeled, labels, strict=True)
        )
    precomputed = load_config("method=precomputed", f"method.path={path}")
    return run(replace(config, method=PartBuilder(precomputed).part("method", Method)))


def main() -> int:
    """Print both rates; the exit code is 1 where more than one of 20 runs goes wrong either way."""
    parser = argparse.ArgumentParser(prog="python -m dnr_bench.shapes.check_gate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="how many")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("overrides", nargs="*", help="config values such as paths.store=DIR")
    arguments = parser.parse_intermixed_args()
    baseline = Baseline.read(CONF / "baselines" / "shapes.yaml")
    # labels from a file have no candidates
    tolerances = {k: v for k, v in baseline.tolerances.items() if k != "planted.truth_in_candidates"}
    of_labels = replace(baseline, tolerances=tolerances, judges={k: baseline.judges[k] for k in tolerances})
    unchanged, as_they_are, exchanged = [], [], []
    for seed in tqdm(range(arguments.first, arguments.first + arguments.seeds), desc="seeds"):
        config = build_run(load_config("+experiment=gate", f"seed={seed}", *arguments.overrides))
        result = run(config)
        unchanged.append(_alarm(baseline, result))
        with TemporaryDirectory() as folder:
            as_they_are.append(_alarm(of_labels, swapped(result, seed, config, Path(folder), share=0.0)))
            exchanged.append(_alarm(of_labels, swapped(result, seed, config, Path(folder))))
    n = arguments.seeds
    print(f"alarms of an unchanged pipeline: {sum(unchanged)} of {n} seeds")
    print(f"alarms where its labels come from a file: {sum(as_they_are)} of {n} seeds")
    print(f"alarms where one label in five is another unit's: {sum(exchanged)} of {n} seeds")
    return int(max(sum(unchanged), sum(as_they_are), n - sum(exchanged)) > n / 20)


def _alarm(baseline: Baseline, result: RunResult) -> bool:
    return any(verdict.worse for verdict in verdicts_on(baseline, result))


if __name__ == "__main__":
    raise SystemExit(main())
