from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from dnr_bench.bench import RunConfig
from dnr_bench.command_line import CONF, composed
from dnr_bench.config import build
from dnr_bench.errors import UsageError
from dnr_bench.gate import TOLERANCES, Baseline, judge, main
from dnr_bench.parts import TextEncoder, judged_by
from dnr_bench.run import finite, run
from dnr_bench.shapes.check_gate import swapped

BuildRun = Callable[..., RunConfig]
#: The gate's settings, drawn by the oracle: all units, few images.
QUICK = (
    "+experiment=gate",
    "generator=renderer",
    "neurons.units=all",
    "neurons.layers=[concepts,fc]",
    "images_per_concept=2",
    "captioner=truth",
    "n_candidates=3",
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RunConfig]:
    from dnr_bench.command_line import composed
    from dnr_bench.config import build_run

    store = tmp_path_factory.mktemp("gate") / "store"
    return lambda *overrides: build_run(composed(*QUICK, f"paths.store={store}", *overrides))


@pytest.fixture(scope="module")
def result(built: Callable[..., RunConfig]) -> dict[str, Any]:
    return plain(asdict(run(built())))


def plain(result: Mapping[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(json.dumps(finite(result), allow_nan=False))
    return content


def worse(baseline: Baseline, result: Mapping[str, Any]) -> set[str]:
    return {verdict.metric for verdict in judge(baseline, result) if verdict.worse}


def test_the_same_run_and_another_seed_pass(built: Callable[..., RunConfig], result: dict[str, Any]) -> None:
    baseline = Baseline.of(result)
    assert set(baseline.tolerances) == set(TOLERANCES)
    assert worse(baseline, result) == set()
    assert worse(baseline, plain(asdict(run(built("seed=3"))))) == set()


def test_swapped_labels_of_one_neuron_in_five_are_found(
    built: Callable[..., RunConfig], result: dict[str, Any], tmp_path: Path
) -> None:
    other = plain(swapped(result, 0, built(), tmp_path))
    changed = sum(
        a["labels"] != b["labels"] for a, b in zip(result["neurons"], other["neurons"], strict=True)
    )
    assert 10 <= changed <= 19
    assert "planted.attribute_f1" in worse(of_labels(result), other)
    same = plain(swapped(result, 0, built(), tmp_path, share=0.0))
    assert worse(of_labels(result), same) == set()


def of_labels(result: dict[str, Any]) -> Baseline:
    """A baseline without what labels from a file cannot have: candidates."""
    judged = {**result["metrics"]}
    del judged["planted.truth_in_candidates"]
    return Baseline.of({**result, "metrics": judged})


def test_a_pipeline_does_not_pass_by_saying_nothing(result: dict[str, Any]) -> None:
    silent = copy.deepcopy(result)
    for i, record in enumerate(silent["neurons"]):
        if i % 3:
            record["labels"] = []
            record["values"] = dict.fromkeys(record["values"])
    assert {"planted.exact", "planted.attribute_f1", "fc_layer.clip_cos"} <= worse(
        Baseline.of(result), silent
    )


def test_a_baseline_comes_back_from_its_file(result: dict[str, Any], tmp_path: Path) -> None:
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


def test_what_does_not_compare_is_refused(result: dict[str, Any]) -> None:
    baseline = Baseline.of(result)
    few = {**result, "neurons": result["neurons"][:20]}
    with pytest.raises(UsageError, match="the run has 20 of the baseline's 92 neurons"):
        judge(baseline, few)
    other = copy.deepcopy(result)
    other["metrics"]["fc_layer.sentence_cos"]["judge"] = "all-mpnet-base-v2"
    with pytest.raises(
        UsageError, match=r"sentence_cos was judged by embedded:sentences \(\w+\) for the baseline"
    ):
        judge(baseline, other)
    bare = copy.deepcopy(result)
    del bare["metrics"]["planted.exact"]
    with pytest.raises(UsageError, match=r"the run has no planted\.exact"):
        judge(baseline, bare)


def test_the_command_judges_a_run_and_writes_a_summary_for_ci(
    result: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, baseline = tmp_path / "run", tmp_path / "mine.yaml"
    folder.mkdir()
    (folder / "result.json").write_text(json.dumps(result))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))

    def call(*words: str) -> int:
        monkeypatch.setattr("sys.argv", ["gate", *words])
        return main()

    assert call(f"run={folder}", "update=true", f"baseline={baseline}") == 0
    assert call(f"run={folder}", f"baseline={baseline}") == 0
    bad = copy.deepcopy(result)
    for record in bad["neurons"][:30]:
        record["labels"] = ["<b>|bad"]
        record["values"] |= {name: 0.0 for name in TOLERANCES if name in record["values"]}
    (folder / "result.json").write_text(json.dumps(bad))
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
    assert call("--help") == 0


def test_the_committed_baseline_is_one_of_the_gates_setting() -> None:
    baseline = Baseline.read(CONF / "baselines" / "shapes.yaml")
    assert len(baseline.neurons) == 92
    assert set(baseline.tolerances) == set(TOLERANCES)


def test_the_committed_baseline_was_judged_by_todays_models() -> None:
    baseline, config = Baseline.read(CONF / "baselines" / "shapes.yaml"), composed()
    for metric, group in (("fc_layer.clip_cos", "encoder"), ("fc_layer.sentence_cos", "sentence_encoder")):
        assert baseline.judges[metric] == judged_by(build(config[group], TextEncoder, group))
