"""Services that machines share: PostgreSQL under MLflow and Optuna, with servers of their own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient

from tests.conftest import ROOT
from tests.helpers.servers import free_port, mlflow_server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("initdb") is None, reason="PostgreSQL is not installed"),
]
SMALL = ("generator=renderer", "neurons.layers=[concepts]", "neurons.sample=3", "probe.n_images=600")


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    """The address of a server without its database; the server does not run as root."""
    folder, port = Path("/tmp") / f"dnr-postgresql-{os.getpid()}", free_port()
    user = "postgres" if os.geteuid() == 0 else None
    folder.mkdir()
    if user:
        shutil.chown(folder, user)
    binaries = Path(shutil.which("initdb") or "").resolve().parent
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/"}
    data = folder / "data"
    words = [str(binaries / "initdb"), "-D", str(data), "-U", "dnr", "--auth=trust", "--no-sync"]
    subprocess.run(words, check=True, user=user, **quiet)  # type: ignore[call-overload]
    words = [
        str(binaries / "postgres"),
        "-D",
        str(data),
        "-p",
        str(port),
        "-k",
        str(folder),
        "-h",
        "127.0.0.1",
    ]
    server = subprocess.Popen(words, user=user, **quiet)  # type: ignore[call-overload]
    try:
        for name in ("mlflow", "optuna"):
            for _ in range(100):
                created = subprocess.run(
                    [str(binaries / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "dnr", name],
                    check=False,
                    capture_output=True,
                )
                if created.returncode == 0:
                    break
                time.sleep(0.2)
        yield f"postgresql://dnr@127.0.0.1:{port}"
    finally:
        server.send_signal(signal.SIGINT)  # connections or not
        server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def dnr_bench(words: list[str], folder: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "dnr_bench", *words],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finished(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        said, _ = process.communicate(timeout=400)
        assert process.returncode == 0, said


@pytest.fixture
def server(postgresql: str, tmp_path: Path) -> Iterator[str]:
    """An MLflow server that keeps runs in PostgreSQL."""
    with mlflow_server(f"{postgresql}/mlflow", tmp_path) as address:
        yield address


def test_jobs_side_by_side_log_to_a_server_with_postgresql(server: str, tmp_path: Path) -> None:
    words = ["-m", *SMALL, "scorer=topk_log,semantic", "hydra/launcher=joblib", f"tracking.uri={server}"]
    finished(dnr_bench(words, tmp_path))
    client = MlflowClient(server)
    experiment = client.get_experiment_by_name("dnr_bench")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert [run.info.status for run in (parent, *children)] == ["FINISHED"] * 3
    assert {item.path for item in client.list_artifacts(parent.info.run_id)} >= {"comparison.html"}
    assert {item.path for item in client.list_artifacts(children[0].info.run_id)} >= {"result.json"}


def test_runs_log_to_postgresql_without_a_server(postgresql: str, tmp_path: Path) -> None:
    finished(dnr_bench([*SMALL, f"tracking.uri={postgresql}/mlflow", "experiment_name=direct"], tmp_path))
    client = MlflowClient(f"{postgresql}/mlflow")
    experiment = client.get_experiment_by_name("direct")
    assert experiment is not None
    assert [run.info.status for run in client.search_runs([experiment.experiment_id])] == ["FINISHED"]


def test_two_workers_share_a_study_in_postgresql(postgresql: str, tmp_path: Path) -> None:
    storage = f"{postgresql}/optuna"
    words = ["study", "study=scoring", "n_trials=30", f"storage={storage}", *SMALL]
    finished(*(dnr_bench([*words, f"worker={number}"], tmp_path) for number in range(2)))
    found = [optuna.load_study(study_name=s, storage=storage) for s in optuna.get_all_study_names(storage)]
    done = [t.number for study in found for t in study.trials if t.state == optuna.trial.TrialState.COMPLETE]
    assert 30 <= len(done) <= 30 + len(found)  # one that the other worker had begun
    assert len(done) == sum(len(study.trials) for study in found)
