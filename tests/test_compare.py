from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dnr_bench.app.commands.compare import main
from dnr_bench.app.run import RunConfig, RunResult, run
from dnr_bench.infra.errors import UsageError
from dnr_bench.results.comparison import Outcome
from dnr_bench.shapes.concepts import COLORS

BuildRun = Callable[..., RunConfig]


@pytest.fixture
def runs(small_run: BuildRun, tmp_path: Path) -> list[Path]:
    """The folders of three runs; the third is one of another scoring function and seed."""
    folders = []
    for i, overrides in enumerate((["scorer=mean"], ["scorer=semantic"], ["scorer=semantic", "seed=1"])):
        folder = tmp_path / "sweep" / str(i)
        words = ["captioner=dataset", "evaluator=[planted]", "evaluator.planted.reciprocal_rank=true"]
        run(small_run(*words, *overrides)).write(folder)
        Outcome(overrides).write(folder)
        folders.append(folder)
    return folders


def tables(mlruns: Path, name: str) -> list[dict[str, object]]:
    (path,) = (mlruns / "artifacts").glob(f"*/artifacts/{name}.json")
    content = json.loads(path.read_text())
    return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]


def call(monkeypatch: pytest.MonkeyPatch, mlruns: Path, *names: object) -> int:
    return main([*map(str, names), "--mlruns", str(mlruns)])


def test_two_runs_are_compared_printed_and_logged(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, tmp_path / "a", runs[0], runs[1] / "result.json") == 0
    shown = capsys.readouterr().out
    assert "before: scorer=mean" in shown
    assert "planted.reciprocal_rank" in shown
    rows = {row["metric"]: row for row in tables(tmp_path / "a", "differences")}
    first, second = (json.loads((folder / "result.json").read_text()) for folder in runs[:2])
    found, metric = rows["planted.reciprocal_rank"], "planted.reciprocal_rank"
    assert found["value_before"] == pytest.approx(first["metrics"][metric]["mean"])
    assert found["value_after"] == pytest.approx(second["metrics"][metric]["mean"])
    assert found["low"] <= found["difference"] <= found["high"]
    assert found["p"] < 0.05
    assert found["p_holm"] > found["p"]  # one of many metrics
    changed = tables(tmp_path / "a", "changed_labels")
    labels = [{n["unit"]: "; ".join(n["labels"]) for n in result["neurons"]} for result in (first, second)]
    expected = {f"concepts:{unit}" for unit in labels[0] if labels[0][unit] != labels[1][unit]}
    assert {row["neuron"] for row in changed} == expected
    assert call(monkeypatch, tmp_path / "b", runs[1], runs[2]) == 0  # another seed: by neuron
    assert {row["n"] for row in tables(tmp_path / "b", "differences")} >= {9}


@pytest.mark.slow
def test_classes_are_compared_as_neurons_are(
    label_run: Callable[..., RunResult],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few = [
        f"evaluator.ood_auroc.datasets.{name}.n_images=200" for name in ("colors", "backgrounds", "shapes")
    ]
    colors = dict(enumerate(COLORS))
    for name, labels in (("right", colors), ("wrong", {unit: COLORS[unit - 3] for unit in colors})):
        label_run(labels, "evaluator=[ood_auroc]", *few).write(tmp_path / name)
        Outcome([f"labels={name}"]).write(tmp_path / name)
    assert call(monkeypatch, tmp_path / "e", tmp_path / "right", tmp_path / "wrong") == 0
    rows = {row["metric"]: row for row in tables(tmp_path / "e", "differences")}
    found = rows["ood_auroc.colors"]
    assert found["n"] == len(COLORS)
    assert found["high"] < 0
    assert found["difference"] == pytest.approx(found["value_after"] - found["value_before"])
    assert rows["label_change"]["n"] == len(COLORS)  # classes have no labels


def test_a_sweep_is_compared_pair_by_pair(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, blur in zip(runs[1:], (2, 4), strict=True):
        (folder / "outcome.json").write_text(
            json.dumps({"overrides": [f"blur={blur}"], "choices": {}, "failure": None})
        )
    assert call(monkeypatch, tmp_path / "c", tmp_path / "sweep") == 0
    rows = tables(tmp_path / "c", "differences")
    assert len({(row["before"], row["after"]) for row in rows}) == 3
    assert all(row["p_holm"] >= row["p"] for row in rows if row["metric"] != "label_change")
    assert all(row["p"] is None for row in rows if row["metric"] == "label_change")
    shown = capsys.readouterr().out
    assert "planted.exact" in shown.split("No pair differs at P < 0.05 in:")[1]
    assert "planted.reciprocal_rank" not in shown.split("No pair differs at P < 0.05 in:")[1]


def test_what_cannot_be_compared_is_said(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="is a single run"):
        call(monkeypatch, tmp_path / "d", runs[0])
    with pytest.raises(UsageError, match="neither a folder nor the id of a run"):
        call(monkeypatch, tmp_path / "d", runs[0], "0123abcd")
    (runs[1] / "outcome.json").write_text(json.dumps({"overrides": [], "choices": {}, "failure": "no disk"}))
    with pytest.raises(UsageError, match="has no finished job"):
        call(monkeypatch, tmp_path / "d", runs[0], runs[1])
