"""What every method must do: labels above chance, in any order, resumed, in report, comparison and gate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dnr_bench.app.run import RunConfig, run, share
from dnr_bench.results.records import records_in
from dnr_bench.results.schema import RunResult
from tests.conftest import ROOT, SMALL, CommandLine

BuildRun = Callable[..., RunConfig]
#: These have no labels of their own.
OTHERS = ("none", "precomputed")
METHODS = sorted({p.stem for p in (ROOT / "conf" / "method").glob("*.yaml")} - set(OTHERS))
#: Other tests look at these, too.
KNOWN = ("describe", "clip_dissect", "network_dissection")
EACH = [pytest.param(m, marks=pytest.mark.slow) if m in KNOWN else m for m in METHODS]
SETTINGS = {"milan": ["method.beam=8"], "invert": ["method.min_gain=0.01"]}
SOME = ("neurons.units=[0,9,13,27,50,60]", "evaluator=[planted]")


def words_of(method: str) -> list[str]:
    return [f"method={method}", *SETTINGS.get(method, []), *SOME]


def told(result: RunResult) -> list[tuple[str, str, str | None]]:
    return [(neuron.name, neuron.answer, neuron.unscored) for neuron in result.neurons]


@pytest.mark.parametrize("method", EACH)
def test_labels_are_above_chance_and_below_the_truth(method: str, small_run: BuildRun) -> None:
    result = run(small_run(*words_of(method)))
    found = result.metrics["planted.attribute_f1"]
    assert found.chance is not None
    assert found.chance + 0.2 < found.mean <= 1
    by_name = {neuron.name: neuron for neuron in result.neurons}
    assert by_name["concepts:60"].unscored.startswith("dead")
    for neuron in result.neurons:
        assert bool(neuron.labels) == (neuron.unscored is None)
        scores = [candidate.score for candidate in neuron.candidates if candidate.reason is None]
        assert all(score == score for score in scores)  # no NaN without a reason


@pytest.mark.parametrize(
    "method", [m if m == "invert" else pytest.param(m, marks=pytest.mark.slow) for m in METHODS]
)
def test_parts_of_the_neurons_in_any_order_add_up_to_the_whole(method: str, small_run: BuildRun) -> None:
    whole = run(small_run(*words_of(method)))
    own = small_run(*words_of(method), "probe.n_images=300", store="own")
    for place in (1, 0):
        part = replace(own, neurons=own.neurons[place::2][::-1])
        share(part, part.session())  # as a shard does, or a run that was killed
    done = run(small_run(*words_of(method), store="own"))
    assert told(done) == told(whole)
    stage = "candidates" if method == "describe" else method
    assert done.stages[stage].misses == 0
    assert done.stages[stage].hits > 0


@pytest.mark.slow
def test_every_rival_is_in_report_mlflow_comparison_and_gate(
    command_line: CommandLine, tmp_path: Path, shared_store: Path
) -> None:
    new = [method for method in METHODS if method not in KNOWN]
    small = [*SMALL, "neurons.units=[0,9,13,27,50,60]", "evaluator=[planted]", f"paths.store={shared_store}"]
    done = command_line(["-m", *small, f"method={','.join(new)}"])
    assert done.returncode == 0, done.stderr
    records = records_in(tmp_path / "mlruns" / "runs")
    assert len(records) == len(new)
    (sweep,) = (tmp_path / "mlruns" / "runs").iterdir()
    page = (sweep / "comparison.html").read_text()
    for number, method in enumerate(new):
        assert method in page
        folder = sweep / str(number)
        (red, *_) = RunResult.read(folder).neurons
        assert red.answer
        assert red.answer in (folder / "report.html").read_text()
    baseline = tmp_path / "mine.yaml"
    for extra, code in ((["update=true"], 0), ([], 0)):
        gate = command_line(["gate", f"run={folder}", f"baseline={baseline}", *extra])
        assert gate.returncode == code, gate.stdout + gate.stderr
