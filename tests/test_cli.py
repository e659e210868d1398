"""The command line as a user meets it: exit codes, messages, and what MLflow then holds."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from dnr_bench.results.comparison import ComparisonRow
from tests.conftest import SMALL, CommandLine


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["scorer=nope"], ["scorer=nope", "topk_log", "semantic"]),
        (["neurons.layers=[layer9]"], ["layer9", "concepts (64)", "fc (28)"]),
        (["neurons.units=[99999]"], ["99999", "0..63"]),
        (["probe.n_images=abc"], ["probe.n_images='abc'", "int"]),
        (["scorer=semantic", "scorer.alpha=2"], ["scorer.alpha=2", "0..1"]),
        (
            ["scorer.alpha=2"],
            [
                "scorer.alpha",
                "allowed keys of scorer: halfway, weight",
                "alpha belongs to scorer=semantic",
            ],
        ),
        (["scorers=mean"], ["scorers", "allowed keys", "scorer,"]),
        (
            ["evaluator=[nope]"],
            ["evaluator=nope", "members of evaluator: abstention, concept_groups, cost, counterfactual"],
        ),
        (["blur"], ["blur", "key=value"]),
    ],
)
def test_wrong_requests_end_with_one_helpful_message(
    command_line: CommandLine, tmp_path: Path, arguments: list[str], messages: list[str]
) -> None:
    done = command_line(arguments)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert messages
    for message in messages:
        assert message in done.stderr, done.stderr
    assert not (tmp_path / "mlruns" / "mlflow.db").exists()


def test_a_process_of_its_own_ends_with_the_same_message(process: CommandLine) -> None:
    done = process(["neurons.units=[99999]"])
    assert done.returncode == 2
    assert "0..63" in done.stderr
    assert "Traceback" not in done.stderr


def test_debug_shows_where_it_happened(command_line: CommandLine) -> None:
    done = command_line(["probe.n_images=0", "debug=true"])
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert "probe.n_images=0 must be at least 2" in done.stderr


def test_help_names_groups_and_examples(command_line: CommandLine) -> None:
    done = command_line(["--help"])
    assert done.returncode == 0
    assert "topk_squared_image_products" in done.stdout
    assert "python -m dnr_bench -m scorer=topk_log,semantic blur=0,2,4" in done.stdout


def test_a_multirun_nests_its_jobs_compares_them_and_survives_a_failing_one(
    command_line: CommandLine, tmp_path: Path
) -> None:
    done = command_line(
        ["-m", "scorer=topk_log,semantic", "scorer.k=5,0", *SMALL, "neurons.units=[0,9]", "captioner=dataset"]
    )
    assert done.returncode == 2
    assert "k=0 must be at least 1" in done.stderr
    assert "Jobs of this multirun" in done.stdout
    with sqlite3.connect(tmp_path / "mlruns" / "mlflow.db") as database:
        rows = database.execute(
            "select r.run_uuid, r.status, t.value from runs r left join tags t"
            " on t.run_uuid = r.run_uuid and t.key = 'mlflow.parentRunId'"
        ).fetchall()
        metrics = dict(database.execute("select run_uuid, value from metrics where key = 'planted/exact'"))
        names = dict(database.execute("select run_uuid, name from runs").fetchall())
        axes = dict(database.execute("select run_uuid, value from params where key = 'scorer'"))
        (view,) = database.execute(
            "select key, value from experiment_tags where key like '%sharedViewState%'"
        )
        (note,) = database.execute(
            "select value from tags where key = 'mlflow.note.content' and value like '|%'"
        )
        failures = database.execute("select value from tags where key = 'failure'").fetchall()
        params = database.execute("select value from params where key = 'scorer.k' order by value").fetchall()
        datasets = database.execute("select name from datasets").fetchall()
    parents = [run for run, _, parent in rows if parent is None]
    assert len(parents) == 1
    children = [(run, status) for run, status, parent in rows if parent == parents[0]]
    assert sorted(status for _, status in children) == ["FAILED", "FAILED", "FINISHED", "FINISHED"]
    assert sorted(metrics.values())[-1] == metrics.pop(parents[0])  # the parent has the best job's
    assert len(metrics) == 2
    assert names[parents[0]] == "scorer × scorer.k"
    assert axes[parents[0]] == "topk_log,semantic"
    assert sorted((names[run], axes[run]) for run, _ in children) == [
        (f"{scorer} · scorer.k {k}", scorer) for scorer in ("semantic", "topk_log") for k in (0, 5)
    ]
    assert view[0] == f"mlflow.sharedViewState.{parents[0]}"
    assert json.loads(view[1])["compareRunCharts"][0]["yaxis"]["key"] == "planted/exact"
    assert f"viewStateShareKey={parents[0]}" in done.stdout.replace("\n", "")
    assert note[0].startswith("| scorer | scorer.k | planted.exact |")
    assert len(failures) == 2
    assert all("k=0" in reason for (reason,) in failures)
    assert len(params) == 5  # of the jobs, and what the parent varies
    assert datasets == [("shapes-probe-300",)]
    artifacts = tmp_path / "mlruns" / "artifacts"
    finished = next(run for run, status in children if status == "FINISHED")
    names = {path.name for path in (artifacts / finished / "artifacts").glob("*")}
    assert {"result.json", "neurons.json", "metrics.json", "config.yaml", "report.html"} <= names
    table = json.loads((artifacts / finished / "artifacts" / "neurons.json").read_text())
    assert {"neuron", "label", "truth", "score"} <= set(table["columns"])
    names = {path.name for path in (artifacts / parents[0] / "artifacts" / "comparison").glob("*.png")}
    assert {"planted.exact.png", "label_change.difference.png"} <= names
    comparison = json.loads((artifacts / parents[0] / "artifacts" / "comparison.json").read_text())
    assert len(comparison["data"]) == 4
    assert "planted.exact" in (artifacts / parents[0] / "artifacts" / "comparison.html").read_text()


def test_a_moved_checkout_still_finds_its_artifacts(tmp_path: Path) -> None:
    from dnr_bench.outputs.mlflow.places import tracking_place
    from dnr_bench.outputs.mlflow.tracker import Tracker

    old, new = tmp_path / "old" / "mlruns", tmp_path / "new" / "mlruns"
    tracker = Tracker(tracking_place(old), "bench")
    run_id = tracker.start("one")
    page = tmp_path / "comparison.html"
    page.write_text("<p>")
    tracker.finish_parent(run_id, [ComparisonRow({}, "finished", {}, {}, 0, 1.0)], page, "FINISHED")
    elsewhere = tracker.client.create_experiment("other", "file:///shared/artifacts")
    new.parent.mkdir()
    old.rename(new)
    moved = Tracker(tracking_place(new), "bench")
    assert [item.path for item in moved.client.list_artifacts(run_id)] == [
        "comparison.html",
        "comparison.json",
    ]
    assert moved.client.get_run(run_id).info.status == "FINISHED"
    assert moved.client.get_experiment(elsewhere).artifact_location == "file:///shared/artifacts"


def test_a_broken_database_does_not_cost_the_labels(command_line: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "mlflow.db").write_text("this is no database" * 100)
    done = command_line([*SMALL, "neurons.units=[0]", "captioner=dataset", "evaluator=[]"])
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "not a database" in done.stderr
    (result,) = (tmp_path / "mlruns" / "runs").glob("*/result.json")
    assert json.loads(result.read_text())["neurons"][0]["labels"] == ["red"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("dnr-bench scorer=topk_s", "scorer=topk_squared"),
        ("dnr-bench gate scorer=sem", "scorer=semantic"),
        ("dnr-bench run generat", "generator="),
    ],
)
def test_a_shell_completes_groups_and_members(
    command_line: CommandLine, line: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    assert expected in command_line(["-sc", "query=bash"]).stdout.split()
