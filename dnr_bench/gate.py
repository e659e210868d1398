"""Has label quality got worse? Runs a small benchmark and holds it against a committed baseline.

    python -m dnr_bench.gate                    run it; exit code 1 where something got worse
    python -m dnr_bench.gate run=RUN            take this run (its folder or its id in MLflow) instead
    python -m dnr_bench.gate update=true        write a new baseline
    python -m dnr_bench.gate scorer=semantic    with any setting of a run

baseline=NAME or FILE chooses the baseline (conf/baselines/shapes.yaml). Worse is what fell by more than its
tolerance, neuron by neuron, and would hardly have by chance (sign flips, P < 0.05 over all metrics).
In GitHub Actions the table becomes the summary of the job.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dnr_bench.command_line import CONF, composed, exit_code_of
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
_P = 0.05
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
                f"{record['layer']}:{record['unit']}": {
                    "layer": record["layer"],
                    "unit": record["unit"],
                    "labels": record["labels"],
                    "truth": record["truth"],
                    "values": {name: record["values"][name] for name in gated if name in record["values"]},
                }
                for record in result["neurons"]
            },
        )

    @staticmethod
    def read(path: Path) -> Baseline:
        """The baseline of a file."""
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
            return Baseline(**{**content, "neurons": dict(content["neurons"])})
        except OSError as error:
            known = ", ".join(sorted(file.stem for file in (CONF / "baselines").glob("*.yaml")))
            raise UsageError(
                f"baseline={path} cannot be read: {error.strerror}; there are {known}"
            ) from error
        except (yaml.YAMLError, TypeError, KeyError) as error:
            raise UsageError(f"baseline={path} is no baseline: {error}") from error

    def write(self, path: Path) -> None:
        """Write the file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {**vars(self), "neurons": dict(self.neurons)}
        note = "# Written by python -m dnr_bench.gate update=true; what label quality is held against.\n"
        path.write_text(note + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110))


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
    """A verdict on each metric of the baseline; raises `UsageError` where the two do not compare."""
    after: Records = {f"{record['layer']}:{record['unit']}": record for record in result["neurons"]}
    common = after.keys() & baseline.neurons.keys()
    if len(common) < _MIN_SHARE * len(baseline.neurons):
        raise UsageError(
            f"the run has {len(common)} of the baseline's {len(baseline.neurons)} neurons; it needs"
            f" {_MIN_SHARE:.0%} of them"
        )
    for name, wanted in baseline.judges.items():
        given = result["metrics"].get(name, {}).get("judge", wanted)
        if given != wanted:
            raise UsageError(f"{name} was judged by {wanted} for the baseline, and by {given} for the run")
    found = {
        name: difference(name, baseline.neurons, after, link_labels=False) for name in baseline.tolerances
    }
    if missing := [name for name, value in found.items() if value is None]:
        raise UsageError(f"the run has no {', '.join(missing)}, which the baseline has: evaluate it as well")
    differences = {name: value for name, value in found.items() if value is not None}
    adjusted = holm([value.p for value in differences.values()])
    return [
        Verdict(name, value, p, baseline.tolerances[name])
        for (name, value), p in zip(differences.items(), adjusted, strict=True)
    ]


def fallen(baseline: Baseline, result: Mapping[str, Any], metric: str) -> list[tuple[str, str, str, str]]:
    """(neuron, truth, label of the baseline, label now) where the metric fell, the most first."""
    falls = []
    for record in result["neurons"]:
        name = f"{record['layer']}:{record['unit']}"
        before = baseline.neurons.get(name, {"values": {}})
        values = before["values"].get(metric), record["values"].get(metric)
        if None not in values and values[1] < values[0]:
            texts = ("; ".join(before["labels"]) or "–", "; ".join(record["labels"]) or "–")
            falls.append((values[0] - values[1], name, str(record["truth"] or ""), *texts))
    falls.sort(key=lambda fall: -fall[0])
    return [fall[1:] for fall in falls]


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
        Baseline.of(result).write(path)
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
    return _result(folder)


def _taken(name: str, overrides: Sequence[str]) -> dict[str, Any]:
    if overrides:
        raise UsageError(f"run={name} is done: it takes no {' '.join(overrides)}")
    folder = Path(name).parent if Path(name).name == "result.json" else Path(name)
    if (folder / "result.json").exists():
        return _result(folder)
    from dnr_bench.tracking import Tracker

    config = composed()
    jobs = Tracker(Path(config.paths.mlruns), config.experiment_name).jobs(name)
    if len(jobs) != 1 or jobs[0].result is None:
        raise UsageError(f"run={name} is a multirun or has no result: name one finished run")
    return dict(jobs[0].result)


def _result(folder: Path) -> dict[str, Any]:
    import json

    content: dict[str, Any] = json.loads((folder / "result.json").read_text())
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
