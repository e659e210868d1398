"""Finished runs as tables, as an export for others, and as a leaderboard."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pandas
import pytest

from dnr_bench import neurons_df, runs_df
from dnr_bench.app.commands import export, leaderboard
from dnr_bench.data.explanation import ScoredCandidate
from dnr_bench.infra.errors import UsageError
from dnr_bench.outputs.mlflow.places import tracking_place
from dnr_bench.outputs.mlflow.tracker import Tracker
from dnr_bench.results.comparison import Outcome
from dnr_bench.results.leaderboard import leaderboards
from dnr_bench.results.records import records_in
from tests.helpers.results import metric, neuron, result

N = 12


def written(folder: Path, values: Mapping[int, float], words: list[str], at: float = 0.0) -> Path:
    """A run of N neurons in a folder; values: planted.exact of each, 0 where nothing is said."""
    candidates = (ScoredCandidate("red", "captions", 0.9), ScoredCandidate("blue", "captions", 0.1))
    neurons = [
        neuron(
            unit, [f"label {unit}"], {"planted.exact": values.get(unit, 0.0)},
            score=0.5, truth="red", candidates=candidates, captions=("a red thing",),
        )
        for unit in range(N)
    ]  # fmt: skip
    neurons.append(neuron(N, [], {}, unscored="dead"))
    mean = sum(values.values()) / N
    of_run = result(neurons, {"planted.exact": metric(mean=mean, low=mean - 0.1, high=mean + 0.1, n=N)})
    seed = next((int(word[5:]) for word in words if word.startswith("seed=")), 0)
    replace(of_run, config={"seed": seed}).write(folder)
    Outcome(words, {"scorer": next((w[7:] for w in words if w.startswith("scorer=")), "posterior")}).write(
        folder
    )
    os.utime(folder / "result.json", (1e9 + at, 1e9 + at))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two seeds of a good scorer, a bad one, and one that differs from the good one in one neuron."""
    folder = tmp_path / "runs"
    good = dict.fromkeys(range(10), 1.0)
    written(folder / "a" / "0", good, ["scorer=good", "seed=0"], 1)
    written(folder / "a" / "1", good, ["scorer=good", "seed=1"], 2)
    written(folder / "b", {0: 1.0}, ["scorer=bad"], 3)
    written(folder / "c", dict.fromkeys(range(9), 1.0), ["scorer=nearly", "paths.store=elsewhere"], 4)
    return folder


def test_every_run_and_neuron_is_a_row(runs: Path) -> None:
    frame = runs_df(runs)
    assert list(frame["run"]) == ["a/0", "a/1", "b", "c"]
    assert list(frame["name"]) == ["good", "good", "bad", "nearly"]
    assert list(frame["scorer"]) == ["good", "good", "bad", "nearly"]
    assert frame["planted.exact"].tolist() == pytest.approx([10 / N, 10 / N, 1 / N, 9 / N])
    assert set(frame["unlabeled"]) == {1}
    neurons = neurons_df([runs / "b", runs / "c"])
    assert len(neurons) == 2 * (N + 1)
    assert neurons["label"].isna().sum() == 2
    assert neurons["planted.exact"].isna().sum() == 2
    assert set(neurons["run"]) == {"b", "c"}


def test_a_copy_among_the_artifacts_of_mlflow_is_no_second_run(runs: Path) -> None:
    copied = runs / "artifacts" / "0123456789abcdef" / "artifacts"
    copied.mkdir(parents=True)
    for name in ("result.json", "outcome.json"):
        (copied / name).write_bytes((runs / "b" / name).read_bytes())
    assert list(runs_df(runs)["run"]) == ["a/0", "a/1", "b", "c"]


def test_the_same_rows_come_from_mlflow(runs: Path, tmp_path: Path) -> None:
    place = tracking_place(tmp_path / "mlruns")
    tracker = Tracker(place, "dnr_bench")
    for record in records_in(runs)[2:]:
        run_id = tracker.start(record.name)
        tracker.log_result(run_id, record.result, runs / record.run, record.job.choices)
    frame = runs_df(place.uri)
    assert list(frame["name"]) == ["bad", "nearly"]
    assert frame["planted.exact"].tolist() == pytest.approx([1 / N, 9 / N])
    with pytest.raises(UsageError, match="has no finished run with a result"):
        runs_df(place.uri, experiment="another")


def test_a_folder_without_runs_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no finished run"):
        runs_df(tmp_path)


def test_what_is_exported_is_read_by_others(runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert export.main([str(out), str(runs)]) == 0
    frame = pandas.read_parquet(out / "runs.parquet")
    assert frame["planted.exact.low"].tolist() == runs_df(runs)["planted.exact.low"].tolist()
    assert pandas.api.types.is_float_dtype(frame["planted.exact"])
    assert not any(name.startswith("paths.") for name in frame)
    assert len(pandas.read_parquet(out / "neurons.parquet")) == 4 * (N + 1)
    card = (out / "README.md").read_text()
    assert card.startswith("---\n")
    assert f"4 runs of {4 * (N + 1)} neurons" in card
    logs = sorted((out / "logs").iterdir())
    assert len(logs) == 4
    log = json.loads(logs[2].read_text())
    assert log["version"] == 2
    assert log["eval"]["model"] == "describe/bad"
    assert log["results"]["scores"][0]["metrics"]["mean"]["value"] == pytest.approx(1 / N)
    assert log["samples"][0]["scores"]["planted.exact"] == {"value": 1.0, "answer": "label 0"}
    assert log["samples"][N]["scores"] == {}


def test_inspect_reads_the_logs(runs: Path, tmp_path: Path) -> None:
    reading = pytest.importorskip("inspect_ai.log")
    assert export.main([str(tmp_path / "out"), str(runs)]) == 0
    for path in (tmp_path / "out" / "logs").iterdir():
        log = reading.read_eval_log(str(path))
        assert log.status == "success"
        assert len(log.samples) == N + 1


def test_the_best_settings_are_those_that_a_paired_test_does_not_tell_apart(runs: Path) -> None:
    (board,) = leaderboards(records_in(runs))
    assert [entry.name for entry in board.entries] == ["good", "nearly", "bad"]
    assert board.entries[0].runs == ("a/0", "a/1")
    assert [bool(entry.best) for entry in board.entries] == [True, True, False]
    assert board.entries[0].row.metrics["planted.exact"].mean == pytest.approx(10 / N)


def test_of_equal_settings_the_latest_counts_and_other_neurons_have_their_own_table(runs: Path) -> None:
    written(runs / "d", dict.fromkeys(range(N), 1.0), ["scorer=bad"], 9)
    other = result([neuron(0, ["x"], {"planted.exact": 1.0})], {"planted.exact": metric(mean=1.0, n=1)})
    other.write(runs / "e")
    Outcome(["scorer=<b>"], {"scorer": "<b>"}).write(runs / "e")
    first, second = leaderboards(records_in(runs))
    assert first.entries[0].name == "bad"
    assert first.entries[0].runs == ("d",)
    assert [entry.name for entry in second.entries] == ["<b>"]


def test_the_leaderboard_is_a_page_markdown_and_a_table(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(runs / "d", {}, ["scorer=<script>"], 9)
    (runs / "b" / "report.html").write_text("<p>a page</p>")
    assert leaderboard.main([str(runs)]) == 0
    shown = capsys.readouterr().out
    assert "good (2 seeds)" in shown
    page = (runs / "leaderboard.html").read_text()
    assert 'href="b/report.html"' in page
    assert "<script>" not in page.split("<tbody>")[1].split("</tbody>")[0]
    text = (runs / "leaderboard.md").read_text()
    assert "| good | **0.833**" in text
    assert "| bad | 0.083" in text
