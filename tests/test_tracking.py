"""Where runs are logged, and that nothing which happens there costs a result."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from dnr_bench.infra.errors import RunError, UsageError
from dnr_bench.outputs.mlflow.places import VARIABLE, tracking_place
from dnr_bench.outputs.mlflow.tracker import Tracker
from tests.conftest import SMALL, Completed
from tests.helpers.servers import free_port, mlflow_server

CommandLine = Callable[[Sequence[str]], Completed]
QUICK = (*SMALL, "neurons.units=[0]", "captioner=dataset", "evaluator=[]", "report=false")
OPEN = """
import sys, time
from pathlib import Path
from dnr_bench.outputs.mlflow.places import tracking_place
from dnr_bench.outputs.mlflow.tracker import Tracker
tracker = Tracker(tracking_place(Path(sys.argv[1])), "bench")
print(tracker.start("one"), flush=True)
time.sleep(float(sys.argv[2]))
"""


@pytest.fixture(autouse=True)
def _nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def tracker_in(folder: Path) -> Tracker:
    return Tracker(tracking_place(folder), "bench")


def opened(folder: Path, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", OPEN, str(folder), str(seconds)], stdout=subprocess.PIPE, text=True
    )


def statuses(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        return [status for (status,) in database.execute("SELECT status FROM runs ORDER BY start_time")]


def test_a_database_whose_creation_was_broken_off_is_created_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: SqlAlchemyStore) -> None:
        raise KeyboardInterrupt  # its tables are there, and nothing in them

    monkeypatch.setattr(SqlAlchemyStore, "_initialize_store_state", killed)
    with pytest.raises(KeyboardInterrupt):
        tracker_in(tmp_path)
    assert not (tmp_path / "mlflow.db").exists()
    monkeypatch.undo()
    assert tracker_in(tmp_path).start("one")
    assert not list(tmp_path.glob(".mlflow.db*"))


@pytest.mark.slow
def test_two_first_runs_at_once_are_safe(tmp_path: Path) -> None:
    processes = [opened(tmp_path, 0) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert len(statuses(tmp_path)) == 2


def test_runs_of_killed_processes_are_closed_and_those_of_living_ones_are_not(tmp_path: Path) -> None:
    processes = [opened(tmp_path, 60) for _ in range(2)]
    ids = [process.stdout.readline().strip() for process in processes if process.stdout]
    try:
        os.kill(processes[0].pid, signal.SIGKILL)
        processes[0].wait()
        tracker = tracker_in(tmp_path)
        assert tracker.close_abandoned() == 1
        found = [tracker.client.get_run(run_id) for run_id in ids]
        assert [run.info.status for run in found] == ["KILLED", "RUNNING"]
        assert found[0].data.tags["failure"] == "the process was killed"
        assert tracker.close_abandoned() == 0
    finally:
        processes[1].kill()
        processes[1].wait()


def test_the_name_of_a_lock_is_not_taken_for_a_path(tmp_path: Path) -> None:
    tracker, precious = tracker_in(tmp_path / "mlruns"), tmp_path / "precious"
    precious.write_text("mine")
    run_id = tracker.start("one")
    for name in ("../../precious", str(precious)):
        tracker.client.set_tag(run_id, "dnr_bench.lock", name)
        tracker.close_abandoned()
        assert precious.read_text() == "mine"


@pytest.mark.slow
def test_a_run_is_there_from_its_start_to_its_end(tmp_path: Path, command_line: CommandLine) -> None:
    done = command_line(QUICK)
    assert done.returncode == 0
    assert statuses(tmp_path / "mlruns") == ["FINISHED"]
    assert not list((tmp_path / "mlruns" / ".running").iterdir())


@pytest.mark.parametrize("how", ["setting", "variable"])
@pytest.mark.slow
def test_another_place_is_honored(
    how: str, tmp_path: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    uri = f"sqlite:///{tmp_path / 'other' / 'mlflow.db'}"
    if how == "variable":
        monkeypatch.setenv(VARIABLE, uri)
    done = command_line([*QUICK, f"tracking.uri={uri}"] if how == "setting" else QUICK)
    assert done.returncode == 0
    assert statuses(tmp_path / "other") == ["FINISHED"]
    assert not (tmp_path / "mlruns" / "mlflow.db").exists()
    assert os.environ.get(VARIABLE) == (uri if how == "variable" else None)


@pytest.mark.parametrize(
    "uri", ["htp://a", "http://", "http://a:99999", "mlruns", "sqlite", "http://[::1", "http://me:word@host"]
)
def test_what_is_no_place_ends_before_any_work(uri: str, command_line: CommandLine, tmp_path: Path) -> None:
    done = command_line([*QUICK, f"tracking.uri='{uri}'"])
    assert done.returncode == 2
    assert "word" not in done.stderr.replace("password", "")
    assert not list(tmp_path.glob("mlruns/runs/*/result.json"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A real server of MLflow's."""
    with mlflow_server(f"sqlite:///{tmp_path / 'server.db'}", tmp_path) as address:
        yield address


@pytest.mark.slow
def test_a_server_gets_the_runs_and_what_it_missed(
    server: str, tmp_path: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    nobody = f"http://127.0.0.1:{free_port()}"
    missed = command_line([*QUICK, f"tracking.uri={nobody}"])
    (folder,) = tmp_path.glob("mlruns/runs/*")
    assert missed.returncode == 1
    assert f"MLflow cannot use {nobody}" in missed.stderr
    assert f"dnr-bench log mlruns/runs/{folder.name}" in missed.stderr
    assert "Traceback" not in missed.stderr
    assert (folder / "result.json").exists()
    sent = command_line(["log", str(folder), "--tracking-uri", server])
    assert sent.returncode == 0, sent.stderr
    assert f"{server}/#/experiments/" in sent.stdout
    again = command_line(["log", str(folder), "--tracking-uri", server])
    assert "already has" in again.stdout
    with closing(sqlite3.connect(tmp_path / "server.db")) as database:
        assert database.execute("SELECT status FROM runs").fetchall() == [("FINISHED",)]


@pytest.mark.slow
def test_a_locked_database_ends_with_the_reason_and_the_result(
    tmp_path: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker_in(tmp_path / "mlruns")
    monkeypatch.setattr("dnr_bench.outputs.mlflow.places._PATIENCE", 0.1)
    with closing(sqlite3.connect(tmp_path / "mlruns" / "mlflow.db")) as database:
        database.execute("BEGIN EXCLUSIVE")
        locked = command_line(QUICK)
    (folder,) = tmp_path.glob("mlruns/runs/*")
    assert locked.returncode == 1
    assert f"MLflow cannot use {tmp_path / 'mlruns' / 'mlflow.db'}: database is locked" in locked.stderr
    assert json.loads((folder / "result.json").read_text())["neurons"]
    assert command_line(["log", str(folder)]).returncode == 0
    assert statuses(tmp_path / "mlruns") == ["FINISHED"]


@pytest.mark.slow
def test_a_multirun_without_mlflow_is_kept_and_sent_later(tmp_path: Path, command_line: CommandLine) -> None:
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "mlflow.db").write_text("this is no database" * 100)
    done = command_line(["-m", *QUICK, "scorer=mean,topk_log"])
    (sweep,) = tmp_path.glob("mlruns/runs/*")
    assert done.returncode == 1
    assert done.stderr.count("MLflow cannot use") == 1
    assert (sweep / "comparison.html").exists()
    (tmp_path / "mlruns" / "mlflow.db").unlink()
    assert command_line(["log", str(sweep)]).returncode == 0
    assert sorted(statuses(tmp_path / "mlruns"))[-1] in ("FINISHED", "FAILED")
    assert len(statuses(tmp_path / "mlruns")) == 3


def test_an_incomplete_database_of_before_says_so_at_once(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("CREATE TABLE latest_metrics (key TEXT)")
    with pytest.raises(RunError, match="creation was broken off; move it away"):
        tracker_in(tmp_path)


def test_a_folder_without_a_run_is_refused(command_line: CommandLine, tmp_path: Path) -> None:
    assert command_line(["log", str(tmp_path)]).returncode == 2
    with pytest.raises(UsageError):
        tracking_place(tmp_path, "nonsense")
