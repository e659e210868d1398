"""Finished runs as tables, as an export for others, and as a leaderboard."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
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
from dnr_bench.results.schema import RunResult
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
    finished = datetime.fromtimestamp(1e9 + at, UTC).isoformat()
    Outcome(words, {"scorer": words[0].removeprefix("scorer=")}, finished=finished).write(folder)
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
    assert "store.root" not in pandas.read_parquet(tmp_path / "out" / "runs.parquet")
    for log in (tmp_path / "out" / "logs").iterdir():
        assert "/home/me" not in log.read_text()
        assert "http://me" not in log.read_text()


def test_what_is_told_to_others_names_no_place_of_this_machine(runs: Path, tmp_path: Path) -> None:
    written(runs / "d", {}, ["scorer=other"], 5)
    assert not [name for name in neurons_df([runs / "a" / "0", runs / "b"])["run"] if "/" in name]
    places = {"paths": {"store": "/home/me"}, "tracking": {"uri": "http://me"}, "store": {"root": "/home/me"}}
    of_run = RunResult.read(runs / "d")
    replace(of_run, config={"seed": 0, "blur": 1.0, **places}).write(runs / "d")
    assert export.main([str(tmp_path / "out"), str(runs)]) == 0
    frame = pandas.read_parquet(tmp_path / "out" / "runs.parquet")
    assert "blur" in frame
    assert not [name for name in frame if name.startswith(("paths", "tracking", "store"))]
    for log in (tmp_path / "out" / "logs").iterdir():
        assert "home/me" not in log.read_text()
        assert "http://me" not in log.read_text()


def test_runs_of_several_folders_keep_apart_and_none_is_exported_twice(runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert export.main([str(out), str(runs / "a" / "0"), str(runs / "a" / "1"), str(runs / "a")]) == 0
    frame = pandas.read_parquet(out / "runs.parquet")
    assert len(set(frame["run"])) == len(frame) == 2
    assert set(pandas.read_parquet(out / "neurons.parquet")["run"]) == set(frame["run"])
    assert len(list((out / "logs").iterdir())) == 2
    assert export.main([str(out), str(runs / "b")]) == 0
    assert len(list((out / "logs").iterdir())) == 1
    (tmp_path / "README.md").write_text("of a project")
    with pytest.raises(UsageError, match="is not of an export"):
        export.main([str(tmp_path), str(runs)])


def test_reading_from_mlflow_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such file"):
        runs_df(f"sqlite:///{tmp_path}/typo.db")
    assert list(tmp_path.iterdir()) == []


def test_the_best_settings_are_those_that_a_paired_test_does_not_tell_apart(runs: Path) -> None:
    (board,) = leaderboards(records_in(runs))
    assert [entry.name for entry in board.entries] == ["good", "nearly", "bad"]
    assert board.entries[0].runs == ("a/0", "a/1")
    assert [bool(entry.best) for entry in board.entries] == [True, True, False]
    assert board.entries[0].row.metrics["planted.exact"].mean == pytest.approx(10 / N)


def test_settings_of_the_same_short_name_are_two_and_other_orders_are_one(tmp_path: Path) -> None:
    for place, words in enumerate(
        (["captioner=openai"], ["summarizer=openai"], ["blur=1", "n_labels=2"], ["n_labels=2", "blur=1"])
    ):
        folder = written(tmp_path / str(place), {0: 1.0}, words, place)
        choices = dict([words[0].split("=")]) if "openai" in words[0] else {"captioner": "blip"}
        Outcome([*words, f"seed={place}"], choices, finished=f"2026-01-0{place + 1}").write(folder)
        of_run = RunResult.read(folder)
        replace(of_run, config={"seed": place, "blur": int(place > 1)}).write(folder)
    (board,) = leaderboards(records_in(tmp_path))
    names = {entry.name: entry.runs for entry in board.entries}
    assert names["captioner=openai"] == ("0",)
    assert names["summarizer=openai"] == ("1",)
    assert sorted(names["blur 1 · n_labels 2"]) == ["2", "3"]
    assert len(names) == 3


def test_fewer_errors_are_better_and_what_is_not_there_comes_last(tmp_path: Path) -> None:
    for place, (scorer, wrong) in enumerate({"few": 0.1, "none": math.nan, "many": 0.9}.items()):
        values = {"planted.wrong": wrong} if wrong == wrong else {}
        neurons = [neuron(unit, [f"label {unit}"], values) for unit in range(N)]
        shown = metric(mean=wrong, low=wrong, high=wrong, n=N, higher_is_better=False)
        replace(result(neurons, {"planted.wrong": shown}), config={"seed": place}).write(tmp_path / scorer)
        Outcome([f"scorer={scorer}"], {"scorer": scorer}).write(tmp_path / scorer)
    (board,) = leaderboards(records_in(tmp_path))
    assert [entry.name for entry in board.entries] == ["few", "many", "none"]
    assert [set(entry.best) for entry in board.entries] == [{"planted.wrong"}, set(), set()]
    assert leaderboard.main([str(tmp_path)]) == 0
    assert "nan" not in (tmp_path / "leaderboard.md").read_text()


def test_of_equal_settings_the_latest_counts_and_other_neurons_have_their_own_table(runs: Path) -> None:
    written(runs / "d", dict.fromkeys(range(N), 1.0), ["scorer=bad"], 9)
    other = result([neuron(0, ["x"], {"planted.exact": 1.0})], {"planted.exact": metric(mean=1.0, n=1)})
    replace(other, config={"seed": 0}).write(runs / "e")
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
    assert f"| good | {2 * N} of {2 * (N + 1)} | **0.833**" in text
    assert f"| bad | {N} of {N + 1} | 0.083" in text
