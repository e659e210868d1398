"""Has label quality got worse? Runs a small benchmark and holds it against a committed baseline.

    python -m dnr_bench.gate                    run it; exit code 1 where something got worse
    python -m dnr_bench.gate run=RUN            take this run (its folder or its id in MLflow) instead
    python -m dnr_bench.gate update=true        write a new baseline
    python -m dnr_bench.gate scorer=semantic    with any setting of a run

baseline=NAME or FILE chooses the baseline (conf/baselines/shapes.yaml). Worse is what fell by more than its
tolerance, neuron by neuron, and hardly by chance (one-sided sign flips, P < 0.1 allowing for all metrics).
In GitHub Actions the table becomes the summary of the job.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dnr_bench.command_line import CONF, composed, exit_code_of
from dnr_bench.comparison import write_outcome
from dnr_bench.config import build_run
from dnr_bench.errors import UsageError
from dnr_bench.run import run
from dnr_bench.summary import console
from evaluators.paired import Difference, Records, difference, holm

#: What is gated, and by how much it may fall.
TOLERANCES = {
    "planted.exact": 0.08,
    "planted.attribute_f1": 0.05,
    "planted.truth_in_candidates": 0.05,
    "fc_layer.clip_cos": 0.05,
    "fc_layer.sentence_cos": 0.05,
}
#: Of a fall beyond the tolerance: together they raise no alarm on other seeds and find one swapped label in
#: five (`python -m dnr_bench.shapes.check_gate`).
_P = 0.1
_SHOWN_NEURONS = 12
#: The share of the baseline's neurons that a run must have.
_MIN_SHARE = 0.8


@dataclass(frozen=True)
class Baseline:
    """What a run reached: per neuron, with the judge of each metric."""

    date: str
    versions: Mapping[str, str]
    judges: Mapping[str, str]
    tolerances: Mapping[str, float]
    neurons: Records

    @staticmethod
    def of(result: Mapping[str, Any]) -> Baseline:
        """The baseline that a result makes."""
        gated = {name: value for name, value in TOLERANCES.items() if name in result["metrics"]}
        return Baseline(
            date.today().isoformat(),
            dict(result["versions"]),
            {name: result["metrics"][name].get("judge", "") for name in gated},
            gated,
            {
                neuron: {
                    "layer": record["layer"],
                    "unit": record["unit"],
                    "labels": record["labels"],
                    "truth": record["truth"],
                    "values": {name: record["values"][name] for name in gated if name in record["values"]},
                }
                for neuron, record in _by_name(result).items()
            },
        )

    @staticmethod
    def read(path: Path) -> Baseline:
        """The baseline of a file."""
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
            baseline = Baseline(**content)
            for name, record in baseline.neurons.items():
                if not record.keys() >= {"layer", "unit", "labels", "truth"} or not all(
                    isinstance(value, float | int | None) for value in record["values"].values()
                ):
                    raise ValueError(f"{name} is no neuron with labels and values")
            if not baseline.tolerances:
                raise ValueError("it gates nothing")
        except OSError as error:
            known = ", ".join(sorted(file.stem for file in (CONF / "baselines").glob("*.yaml")))
            raise UsageError(
                f"baseline={path} cannot be read: {error.strerror}; there are {known}"
            ) from error
        except Exception as error:  # whatever a file may hold, it is no baseline
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UsageError(f"baseline={path} is no baseline: {reason}") from error
        return baseline

    def write(self, path: Path) -> None:
        """Write the file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {**vars(self), "neurons": dict(self.neurons)}
        note = "# Written by python -m dnr_bench.gate update=true; what label quality is held against.\n"
        text = note + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110)
        path.write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class Verdict:
    """How one metric stands against the baseline."""

    metric: str
    found: Difference
    p_holm: float
    tolerance: float

    @property
    def worse(self) -> bool:
        """Whether it fell by more than the tolerance, and not by chance."""
        return self.found.mean < -self.tolerance and self.p_holm < _P


def judge(baseline: Baseline, result: Mapping[str, Any]) -> list[Verdict]:
    """A verdict on each metric of the baseline; raises `UsageError` where the two do not compare.

    A neuron that has lost its label counts as 0, so that a pipeline cannot pass by saying nothing.
    """
    after = _by_name(result)
    common = after.keys() & baseline.neurons.keys()
    if len(common) < _MIN_SHARE * len(baseline.neurons):
        raise UsageError(
            f"the run has {len(common)} of the baseline's {len(baseline.neurons)} neurons; it needs"
            f" {_MIN_SHARE:.0%} of them"
        )
    if missing := [name for name in baseline.tolerances if name not in result["metrics"]]:
        raise UsageError(f"the run has no {', '.join(missing)}, which the baseline has: evaluate it as well")
    for name, wanted in baseline.judges.items():
        given = result["metrics"][name].get("judge", "")
        if given != wanted:
            raise UsageError(
                f"{name} was judged by {wanted or 'no model'} for the baseline, and by"
                f" {given or 'no model'} for the run"
            )
    filled = {name: {**after[name], "values": _without_gaps(baseline, name, after)} for name in common}
    found = {
        name: difference(name, baseline.neurons, filled, link_labels=False) for name in baseline.tolerances
    }
    differences = {name: value for name, value in found.items() if value is not None}
    adjusted = holm([_p_of_fall(value) for value in differences.values()])
    return [
        Verdict(name, value, p, baseline.tolerances[name])
        for (name, value), p in zip(differences.items(), adjusted, strict=True)
    ]


def _by_name(result: Mapping[str, Any]) -> Records:
    return {f"{record['layer']}:{record['unit']}": record for record in result["neurons"]}


def _p_of_fall(found: Difference) -> float:
    """How often chance alone would let it fall as far: half the two-sided P, as rises are no matter here."""
    return found.p / 2 if found.mean < 0 else 1 - found.p / 2


def _without_gaps(baseline: Baseline, neuron: Hashable, after: Records) -> dict[str, float]:
    """The neuron's values, 0 where the baseline has one and the run does not."""
    values = after[neuron]["values"]
    return {
        name: 0.0 if values.get(name) is None or np.isnan(values[name]) else values[name]
        for name in baseline.neurons[neuron]["values"]
    }


def fallen(baseline: Baseline, result: Mapping[str, Any], metric: str) -> list[tuple[str, str, str, str]]:
    """(neuron, truth, label of the baseline, label now) where the metric fell, the most first."""
    after = _by_name(result)
    falls = []
    for name in after.keys() & baseline.neurons.keys():
        was = baseline.neurons[name]["values"].get(metric)
        now = _without_gaps(baseline, name, after).get(metric)
        if was is not None and now is not None and now < was:
            before, record = baseline.neurons[name], after[name]
            texts = ("; ".join(before["labels"]) or "–", "; ".join(record["labels"]) or "–")
            falls.append((now - was, str(name), str(record["truth"] or ""), *texts))
    return [fall[1:] for fall in sorted(falls)]


def main() -> int:
    """Run the gate; 0: nothing got worse, 1: something did."""
    if {"-h", "--help"} & set(sys.argv):
        print(__doc__)
        return 0
    own = {"run": "", "update": "false", "baseline": "shapes"}
    overrides = []
    for word in sys.argv[1:]:
        key, _, value = word.partition("=")
        if key in own:
            own[key] = value
        else:
            overrides.append(word)
    if own["update"] not in ("true", "false"):
        raise UsageError(f"update={own['update']} must be true or false")
    path = Path(own["baseline"])
    if path.suffix not in (".yaml", ".yml"):
        path = CONF / "baselines" / f"{own['baseline']}.yaml"
    baseline = None if own["update"] == "true" else Baseline.read(path)  # its errors before any work
    result = _taken(own["run"], overrides) if own["run"] else _made(overrides)
    if baseline is None:
        made = Baseline.of(result)
        if not made.tolerances:
            raise UsageError(
                f"the run has none of {', '.join(TOLERANCES)}: a baseline of it would gate nothing"
            )
        made.write(path)
        console().print(f"wrote {path}: {len(result['neurons'])} neurons", soft_wrap=True)
        return 0
    verdicts = judge(baseline, result)
    _print(baseline, result, verdicts, console())
    return int(any(verdict.worse for verdict in verdicts))


def _made(overrides: Sequence[str]) -> dict[str, Any]:
    """The result of the gate's benchmark with these overrides."""
    config = composed("+experiment=gate", *overrides)
    folder = Path(config.paths.mlruns) / "runs" / time.strftime("gate-%Y-%m-%d_%H-%M-%S")
    run(build_run(config)).write(folder)
    write_outcome(folder, ["+experiment=gate", *overrides], {})
    return _result(folder)


def _taken(name: str, overrides: Sequence[str]) -> dict[str, Any]:
    if overrides:
        raise UsageError(f"run={name} is done: it takes no {' '.join(overrides)}")
    folder = Path(name).parent if Path(name).name == "result.json" else Path(name)
    if folder.exists():
        return _result(folder)
    from dnr_bench.tracking import Tracker

    config = composed()
    jobs = Tracker(Path(config.paths.mlruns), config.experiment_name).jobs(name)
    if len(jobs) != 1 or jobs[0].result is None:
        raise UsageError(f"run={name} is a multirun or has no result: name one finished run")
    return dict(jobs[0].result)


def _result(folder: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads((folder / "result.json").read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder}/result.json cannot be read: {error}") from error
    return content


def _print(baseline: Baseline, result: Mapping[str, Any], verdicts: Sequence[Verdict], out: Console) -> None:
    rows = [
        (
            verdict.metric,
            f"{verdict.found.before:.3f}",
            f"{verdict.found.after:.3f}",
            f"{verdict.found.mean:+.3f}",
            f"{verdict.found.low:+.3f} to {verdict.found.high:+.3f}",
            f"{verdict.p_holm:.2g}",
            f"{verdict.tolerance:.2f}",
            "worse" if verdict.worse else "fine",
        )
        for verdict in verdicts
    ]
    columns = ("metric", "baseline", "now", "difference", "95% interval", "P", "tolerance", "verdict")
    table = Table(*columns, title=f"Against the baseline of {baseline.date}", box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*row, style="bold red" if row[-1] == "worse" else "")
    out.print(table)
    worst = next((verdict.metric for verdict in verdicts if verdict.worse), None)
    falls = fallen(baseline, result, worst) if worst else []
    changed = Table("neuron", "truth", "label of the baseline", "label now", box=box.SIMPLE_HEAD)
    for fall in falls[:_SHOWN_NEURONS]:
        changed.add_row(*map(escape, fall))
    if falls:
        out.print(f"where {worst} fell ({len(falls)} neurons):")
        out.print(changed)
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(_markdown(columns, rows) + (_markdown(("neuron", "truth", "was", "is"), falls)))


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines) + "\n\n"


def _cell(text: str) -> str:
    """Text of a model's or a user's, which must not end a cell or become HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
