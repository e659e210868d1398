"""Has label quality got worse? Runs a small benchmark and holds it against a committed baseline.

    dnr-bench gate                    run it; exit code 1 where something got worse
    dnr-bench gate run=RUN            take this run (its folder or its id in MLflow) instead
    dnr-bench gate update=true        write a new baseline
    dnr-bench gate scorer=semantic    with any setting of a run

baseline=NAME or FILE chooses the baseline (conf/baselines/shapes.yaml). Worse is what fell by more than its
tolerance, neuron by neuron, and hardly by chance (one-sided sign flips, P < 0.1 allowing for all metrics).
In GitHub Actions the table becomes the summary of the job.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from shutil import rmtree
from typing import Any
from xml.etree import ElementTree

import numpy as np
import yaml
from rich import box
from rich.console import Console
from rich.table import Table

from dnr_bench.app.command_line import CommandParser, taken_words
from dnr_bench.app.composition import load_config, searched
from dnr_bench.app.configuration import build_run
from dnr_bench.app.record import open_tracker
from dnr_bench.app.run import run
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.files import read_regular
from dnr_bench.infra.shipped import CONF, config_members
from dnr_bench.infra.text_files import markdown_table
from dnr_bench.outputs.terminal.console import console, escaped
from dnr_bench.results.comparison import Outcome
from dnr_bench.results.schema import RunResult, finite
from dnr_bench.results.settings import PLACES
from dnr_bench.statistics.paired import Difference, Records, ScoredItem, difference, holm

#: The small benchmark of the embedded world.
_EXPERIMENT = "+experiment=gate"
#: By how much a headline metric may fall, unless the baseline says otherwise.
_TOLERANCE = 0.05
#: Of a fall beyond the tolerance: with the tolerances of conf/baselines it raises no alarm on other seeds and
#: finds one swapped label in five (`python -m dnr_bench.shapes.check_gate`).
_P = 0.1
_SHOWN_NEURONS = 12
#: The share of the baseline's neurons that a run must have.
_MIN_SHARE = 0.8


@dataclass(frozen=True)
class Baseline:
    """The values that a run reached for each neuron, with the judge of each metric.

    settings: of the run, as on the command line; without any it is that of +experiment=gate.
    """

    date: str
    versions: Mapping[str, str]
    judges: Mapping[str, str]
    tolerances: Mapping[str, float]
    neurons: Records
    settings: Sequence[str] = (_EXPERIMENT,)

    @staticmethod
    def of(
        result: RunResult,
        tolerances: Mapping[str, float] | None = None,
        settings: Sequence[str] = (_EXPERIMENT,),
    ) -> Baseline:
        """The baseline that a result makes: of its headline metrics of neurons that have a direction.

        tolerances: of the baseline that it replaces, which it keeps as far as it has these metrics. settings:
        of the run.
        """
        gated = {
            name: (tolerances or {}).get(name, _TOLERANCE)
            for name, metric in result.metrics.items()
            if metric.headline and metric.higher_is_better and metric.item_kind == "neuron"
        }
        return Baseline(
            date.today().isoformat(),
            dict(result.versions),
            {name: result.metrics[name].judge for name in gated},
            gated,
            {
                neuron.name: ScoredItem(
                    neuron.name,
                    list(neuron.labels),
                    {name: neuron.values[name] for name in gated if name in neuron.values},
                    neuron.truth,
                )
                for neuron in result.neurons
            },
            list(settings),
        )

    @staticmethod
    def read(path: Path) -> Baseline:
        """The baseline of a file."""
        try:
            content = yaml.safe_load(read_regular(path))
            neurons = {name: _read_item(name, record) for name, record in content.pop("neurons").items()}
            baseline = Baseline(**content, neurons=neurons)
            if not baseline.tolerances:
                raise ValueError("it gates nothing")
            if not all(isinstance(word, str) for word in baseline.settings):
                raise ValueError("its settings are no words like key=value")
        except OSError as error:
            known = ", ".join(file.stem for file in config_members("baselines"))
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
        neurons = {
            str(name): {
                "labels": list(item.labels),
                "truth": item.truth,
                "values": {metric: finite(value) for metric, value in item.values.items()},
            }
            for name, item in self.neurons.items()
        }
        content = {**vars(self), "neurons": neurons}
        note = "# Written by dnr-bench gate update=true; what label quality is held against.\n"
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


def verdicts_on(baseline: Baseline, result: RunResult) -> list[Verdict]:
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
    if missing := [name for name in baseline.tolerances if name not in result.metrics]:
        raise UsageError(f"the run has no {', '.join(missing)}, which the baseline has: evaluate it as well")
    for name, wanted in baseline.judges.items():
        given = result.metrics[name].judge
        if given != wanted:
            raise UsageError(
                f"{name} was judged by {wanted or 'no model'} for the baseline, and by"
                f" {given or 'no model'} for the run"
            )
    filled = {name: replace(after[name], values=_without_gaps(baseline, name, after)) for name in common}
    found = {
        name: difference(name, baseline.neurons, filled, link_labels=False) for name in baseline.tolerances
    }
    differences = {name: value for name, value in found.items() if value is not None}
    adjusted = holm([_p_of_fall(value) for value in differences.values()])
    return [
        Verdict(name, value, p, baseline.tolerances[name])
        for (name, value), p in zip(differences.items(), adjusted, strict=True)
    ]


def _by_name(result: RunResult) -> dict[Hashable, ScoredItem]:
    return {n.name: ScoredItem(n.name, n.labels, n.values, n.truth) for n in result.neurons}


def _read_item(name: str, record: Mapping[str, Any]) -> ScoredItem:
    """A neuron of a baseline's file."""
    values = record["values"]
    if not all(isinstance(value, float | int | None) for value in values.values()):
        raise ValueError(f"{name} is no neuron with labels and values")
    known = {metric: float("nan") if value is None else float(value) for metric, value in values.items()}
    return ScoredItem(name, list(record["labels"]), known, record["truth"])


def _p_of_fall(found: Difference) -> float:
    """How often chance alone would let it fall as far: half the two-sided P, as rises are no matter here."""
    return found.p / 2 if found.mean < 0 else 1 - found.p / 2


def _without_gaps(baseline: Baseline, neuron: Hashable, after: Records) -> dict[str, float]:
    """The neuron's values, 0 where the baseline has one and the run does not."""
    values = after[neuron].values
    known = {name: values.get(name, np.nan) for name in baseline.neurons[neuron].values}
    return {name: 0.0 if np.isnan(value) else value for name, value in known.items()}


def fallen(baseline: Baseline, result: RunResult, metric: str) -> list[tuple[str, str, str, str]]:
    """(neuron, truth, label of the baseline, label now) where the metric fell, the most first."""
    after = _by_name(result)
    falls = []
    for name in after.keys() & baseline.neurons.keys():
        was = baseline.neurons[name].values.get(metric)
        now = _without_gaps(baseline, name, after).get(metric)
        if was is not None and now is not None and now < was:
            before, item = baseline.neurons[name], after[name]
            texts = ("; ".join(before.labels) or "–", "; ".join(item.labels) or "–")
            falls.append((now - was, str(name), str(item.truth or ""), *texts))
    return [fall[1:] for fall in sorted(falls)]


def main(words: Sequence[str]) -> int:
    """Run the gate; 0: nothing got worse, 1: something did."""
    parser = CommandParser("gate", __doc__)
    parser.add_settings()
    parser.add_argument("--junit", type=Path, metavar="FILE", help="also write the verdicts as JUnit XML")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the tables as Markdown")
    arguments = parser.parse_args(words)
    own, overrides = taken_words(arguments.overrides, {"run": "", "update": "false", "baseline": "shapes"})
    if own["update"] not in ("true", "false"):
        raise UsageError(f"update={own['update']} must be true or false")
    path = Path(own["baseline"])
    if path.suffix not in (".yaml", ".yml"):
        path = CONF / "baselines" / f"{own['baseline']}.yaml"
    updating = own["update"] == "true"
    baseline = Baseline.read(path) if not updating or path.exists() else None  # its errors before any work
    settings = _settings(baseline, overrides)
    result = (
        _taken(own["run"], overrides) if own["run"] else _made([*settings, *searched(arguments.config_dir)])
    )
    if updating or baseline is None:
        what = [word for word in settings if not word.lstrip("+~").startswith(PLACES)]
        made = Baseline.of(result, baseline.tolerances if baseline else None, what)
        if not made.tolerances:
            raise UsageError("the run has no headline metric of neurons: a baseline of it would gate nothing")
        made.write(path)
        console().print(f"wrote {path}: {len(result.neurons)} neurons", soft_wrap=True)
        return 0
    verdicts = verdicts_on(baseline, result)
    tables = _print(baseline, result, verdicts, console())
    summaries = [Path(name) for name in [os.environ.get("GITHUB_STEP_SUMMARY")] if name]
    for path in (*summaries, *([arguments.markdown] if arguments.markdown else [])):
        with path.open("a" if path in summaries else "w", encoding="utf-8") as file:
            file.write(tables)
    if arguments.junit:
        _write_junit(arguments.junit, verdicts)
    return int(any(verdict.worse for verdict in verdicts))


def _settings(baseline: Baseline | None, overrides: Sequence[str]) -> list[str]:
    """The settings of the run: those of the baseline, then these; of another target these alone."""
    if any(word.startswith(("target=", "+experiment=")) for word in overrides):
        return list(overrides)
    return [*(baseline.settings if baseline else [_EXPERIMENT]), *overrides]


def _made(overrides: Sequence[str]) -> RunResult:
    """The result of a run with these overrides.

    It starts from an empty store, so that no stored item hides a change, unless the overrides name a store.
    """
    config = load_config(*overrides)
    folder = Path(config.paths.mlruns) / "runs" / time.strftime("gate-%Y-%m-%d_%H-%M-%S")
    if any(word.lstrip("+").startswith(("paths.store=", "store.")) for word in overrides):
        result = run(build_run(config, overrides))
    else:
        with _empty_store(folder / "store") as config.paths.store:
            result = run(build_run(config, overrides))
    result.write(folder)
    Outcome(list(overrides)).write(folder)
    return result


@contextmanager
def _empty_store(folder: Path) -> Iterator[str]:
    """A store that is removed where all went well, and is told of where not: answers in it may be paid."""
    try:
        yield str(folder)
    except BaseException:
        if folder.exists():
            print(
                f"what was computed is in {folder}; paths.store={folder} goes on from there", file=sys.stderr
            )
        raise
    rmtree(folder, ignore_errors=True)


def _taken(name: str, overrides: Sequence[str]) -> RunResult:
    if overrides:
        raise UsageError(f"run={name} is done: it takes no {' '.join(overrides)}")
    if Path(name).exists():
        return RunResult.read(name)
    from dnr_bench.outputs.mlflow.jobs import logged_jobs

    jobs = logged_jobs(open_tracker(load_config()), name)
    if len(jobs) != 1 or jobs[0].result is None:
        raise UsageError(f"run={name} is a multirun or has no result: name one finished run")
    return jobs[0].result


def _print(baseline: Baseline, result: RunResult, verdicts: Sequence[Verdict], out: Console) -> str:
    """Print the verdicts and what fell; the same as Markdown is returned."""
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
    for metric in result.beaten_by("copy"):
        if metric in baseline.tolerances:
            copied = result.metrics[metric].controls["copy"]
            out.print(
                f"[bold red]! {metric}: copying the caption of the highest exemplar gives {copied:.3f}[/]"
            )
    columns = ("metric", "baseline", "now", "difference", "95% interval", "P", "tolerance", "verdict")
    table = Table(*columns, title=f"Against the baseline of {baseline.date}", box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*row, style="bold red" if row[-1] == "worse" else "")
    out.print(table)
    known = [v for v in verdicts if not np.isnan(v.found.detectable)]
    told = ", ".join(f"{verdict.metric} {verdict.found.detectable:.3f}" for verdict in known)
    power = f"detectable by a single test on differences like these: {told}" if told else ""
    if power:
        out.print(power, style="dim")
    worst = next((verdict.metric for verdict in verdicts if verdict.worse), None)
    falls = fallen(baseline, result, worst) if worst else []
    changed = Table("neuron", "truth", "label of the baseline", "label now", box=box.SIMPLE_HEAD)
    for fall in falls[:_SHOWN_NEURONS]:
        changed.add_row(*map(escaped, fall))
    if falls:
        out.print(f"where {worst} fell ({len(falls)} neurons):")
        out.print(changed)
    note = f"{power}\n\n" if power else ""
    return markdown_table(columns, rows) + note + markdown_table(("neuron", "truth", "was", "is"), falls)


def _write_junit(path: Path, verdicts: Sequence[Verdict]) -> None:
    """One test case per metric, as CI services show them."""
    worse = sum(verdict.worse for verdict in verdicts)
    suite = ElementTree.Element(
        "testsuite", name="dnr-bench gate", tests=str(len(verdicts)), failures=str(worse)
    )
    for verdict in verdicts:
        case = ElementTree.SubElement(suite, "testcase", classname="dnr_bench.gate", name=verdict.metric)
        found = verdict.found
        told = (
            f"{found.before:.3f} -> {found.after:.3f} ({found.mean:+.3f}, tolerance {verdict.tolerance:.2f})"
        )
        if verdict.worse:
            ElementTree.SubElement(case, "failure", message=told)
        else:
            ElementTree.SubElement(case, "system-out").text = told
    ElementTree.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)
