from __future__ import annotations

import ast
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dnr_bench.app.commands.gate import Baseline, main, verdicts_on
from dnr_bench.app.composition import load_config
from dnr_bench.app.run import RunConfig, run
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.shipped import CONF
from dnr_bench.protocols import TextEncoder, judged_by
from dnr_bench.results.schema import RunResult
from dnr_bench.shapes.check_gate import swapped
from tests.conftest import ROOT, built_run
from tests.defects.catalog import DEFECTS, Defect
from tests.helpers.building import build

BuildRun = Callable[..., RunConfig]
GATED = {
    "planted.exact", "planted.attribute_f1", "planted.truth_in_candidates", "fc_layer.clip_cos",
    "fc_layer.sentence_cos",
}  # fmt: skip
#: The gate's settings, drawn by the oracle: all units, few images.
QUICK = (
    "+experiment=gate",
    "generator=renderer",
    "neurons.units=all",
    "neurons.layers=[concepts,fc]",
    "probe.n_images=500",
    "images_per_concept=2",
    "captioner=dataset",
    "n_candidates=3",
)


@pytest.fixture(scope="module")
def built(shared_store: Path) -> Callable[..., RunConfig]:
    return lambda *overrides: built_run(*QUICK, f"paths.store={shared_store}", *overrides)


@pytest.fixture(scope="module")
def result(built: Callable[..., RunConfig]) -> RunResult:
    return run(built())


def worse(baseline: Baseline, result: RunResult) -> set[str]:
    return {verdict.metric for verdict in verdicts_on(baseline, result) if verdict.worse}


@pytest.mark.slow
def test_the_same_run_and_another_seed_pass(built: Callable[..., RunConfig], result: RunResult) -> None:
    baseline = Baseline.of(result)
    assert set(baseline.tolerances) == GATED
    assert worse(baseline, result) == set()
    assert worse(baseline, run(built("seed=3"))) == set()


def test_swapped_labels_of_one_neuron_in_five_are_found(
    built: Callable[..., RunConfig], result: RunResult, tmp_path: Path
) -> None:
    other = swapped(result, 0, built(), tmp_path)
    changed = sum(a.labels != b.labels for a, b in zip(result.neurons, other.neurons, strict=True))
    assert 10 <= changed <= 19
    assert "planted.attribute_f1" in worse(of_labels(result), other)
    same = swapped(result, 0, built(), tmp_path, share=0.0)
    assert worse(of_labels(result), same) == set()


def of_labels(result: RunResult) -> Baseline:
    """A baseline without what labels from a file cannot have: candidates."""
    return Baseline.of(without(result, "planted.truth_in_candidates"))


def without(result: RunResult, metric: str) -> RunResult:
    return replace(result, metrics={name: m for name, m in result.metrics.items() if name != metric})


def test_a_pipeline_does_not_pass_by_saying_nothing(result: RunResult) -> None:
    neurons = [
        replace(neuron, labels=(), values=dict.fromkeys(neuron.values, float("nan"))) if i % 3 else neuron
        for i, neuron in enumerate(result.neurons)
    ]
    silent = replace(result, neurons=tuple(neurons))
    assert {"planted.exact", "planted.attribute_f1", "fc_layer.clip_cos"} <= worse(
        Baseline.of(result), silent
    )


def test_a_baseline_comes_back_from_its_file(result: RunResult, tmp_path: Path) -> None:
    baseline = Baseline.of(result)
    baseline.write(tmp_path / "mine.yaml")
    assert Baseline.read(tmp_path / "mine.yaml") == baseline
    for content in ("date: today\n", "neurons: [a, b]\n", "- 1\n", "{"):
        (tmp_path / "bad.yaml").write_text(content)
        with pytest.raises(UsageError, match="is no baseline"):
            Baseline.read(tmp_path / "bad.yaml")
    replace(baseline, tolerances={}).write(tmp_path / "bad.yaml")
    with pytest.raises(UsageError, match="it gates nothing"):
        Baseline.read(tmp_path / "bad.yaml")
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="is no baseline"):
        Baseline.read(tmp_path / "bad.yaml")
    with pytest.raises(UsageError, match=r"cannot be read: .* there are shapes"):
        Baseline.read(tmp_path / "gone.yaml")


def test_what_does_not_compare_is_refused(result: RunResult) -> None:
    baseline = Baseline.of(result)
    few = replace(result, neurons=result.neurons[:20])
    with pytest.raises(UsageError, match="the run has 20 of the baseline's 92 neurons"):
        verdicts_on(baseline, few)
    name = "fc_layer.sentence_cos"
    elsewhere = replace(result.metrics[name], judge="all-mpnet-base-v2")
    other = replace(result, metrics={**result.metrics, name: elsewhere})
    with pytest.raises(
        UsageError, match=r"sentence_cos was judged by embedded:sentences \(\w+\) for the baseline"
    ):
        verdicts_on(baseline, other)
    with pytest.raises(UsageError, match=r"the run has no planted\.exact"):
        verdicts_on(baseline, without(result, "planted.exact"))


def test_the_command_judges_a_run_and_writes_a_summary_for_ci(
    result: RunResult,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, baseline = tmp_path / "run", tmp_path / "mine.yaml"
    result.write(folder)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))

    def call(*words: str) -> int:
        return main(words)

    assert call(f"run={folder}", "update=true", f"baseline={baseline}") == 0
    assert call(f"run={folder}", f"baseline={baseline}") == 0
    bad = [
        replace(n, labels=("<b>|bad",), values={**n.values, **{m: 0.0 for m in GATED if m in n.values}})
        for n in result.neurons[:30]
    ]
    replace(result, neurons=(*bad, *result.neurons[30:])).write(folder)
    assert call(f"run={folder / 'result.json'}", f"baseline={baseline}") == 1
    assert "worse" in capsys.readouterr().out
    summary = (tmp_path / "summary.md").read_text()
    assert "| planted.exact |" in summary
    assert "&lt;b>\\|bad" in summary
    for words, message in (
        (("update=maybe",), "update=maybe must be true or false"),
        ((f"run={folder}", "scorer=mean", f"baseline={baseline}"), "is done: it takes no scorer=mean"),
        (("baseline=other",), "there are shapes"),
    ):
        with pytest.raises(UsageError, match=message):
            call(*words)


def test_the_committed_baseline_is_one_of_the_gates_setting() -> None:
    baseline = Baseline.read(CONF / "baselines" / "shapes.yaml")
    assert len(baseline.neurons) == 92
    assert set(baseline.tolerances) == GATED


def test_the_committed_baseline_was_judged_by_todays_models() -> None:
    baseline, config = Baseline.read(CONF / "baselines" / "shapes.yaml"), load_config()
    for metric, group in (("fc_layer.clip_cos", "encoder"), ("fc_layer.sentence_cos", "sentence_encoder")):
        assert baseline.judges[metric] == judged_by(build(config[group], TextEncoder, group))


@pytest.mark.slow
def test_the_gate_computes_everything_itself_and_leaves_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [
        "generator=renderer", "images_per_concept=2", "captioner=dataset", "neurons.layers=[concepts]",
        "neurons.units=[0,9,13]", "evaluator=[planted]", "update=true", "baseline=mine.yaml",
        "paths.mlruns=mlruns",
    ]  # fmt: skip
    for _ in range(2):
        assert main(words) == 0
        (found,) = (RunResult.read(folder) for folder in (tmp_path / "mlruns" / "runs").glob("gate-*"))
        assert all(stage.hits < stage.misses for stage in found.stages.values() if stage.hits)
        assert found.stages["activations"].misses
        for folder in (tmp_path / "mlruns" / "runs").glob("gate-*"):
            assert not (folder / "store").exists()
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
    assert not (tmp_path / "mlruns" / "store").exists()
    kept = Baseline.read(tmp_path / "mine.yaml").settings
    assert [word for word in kept if word in words] == [
        w for w in words if not w.startswith(("update=", "baseline=", "paths."))
    ]
    assert not [word for word in kept if word.startswith("paths.")]  # places are this machine's own


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_every_defect_of_the_catalog_can_be_put_into_the_code(defect: Defect, tmp_path: Path) -> None:
    (tmp_path / defect.file).parent.mkdir(parents=True)
    shutil.copy(ROOT / defect.file, tmp_path / defect.file)
    defect.put_into(tmp_path)
    assert (tmp_path / defect.file).read_text() != (ROOT / defect.file).read_text()
    if defect.file.endswith(".py"):
        ast.parse((tmp_path / defect.file).read_text())
    with pytest.raises(ValueError, match="stands"):
        replace(defect, before="no such words").put_into(tmp_path)
