"""Multiruns that go on, what their folders say of them, and shards."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from filelock import FileLock
from mlflow import MlflowClient

from dnr_bench.app.job_sets import code_digest, continued, jobs_of
from dnr_bench.data.shard import Shard
from dnr_bench.infra.errors import UsageError
from dnr_bench.results.comparison import Outcome
from dnr_bench.results.progress import JobSet, Progress, run_status, set_status
from tests.conftest import ROOT, CommandLine

WORDS = ["-m", "scorer=topk_log,semantic", "blur=0,2"]
SMALL = (
    "generator=renderer", "neurons.layers=[concepts]", "neurons.sample=3", "probe.n_images=600",
    "evaluator=[planted]",
)  # fmt: skip


@pytest.fixture
def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a multirun whose first job is done and whose second one was killed."""
    monkeypatch.chdir(tmp_path)
    folder = Path("mlruns/runs/2026-01-01_00-00-00-000000")
    jobs = jobs_of(WORDS[1:])
    JobSet(tuple(WORDS[1:]), jobs, code_digest(WORDS), "").write(folder)
    Outcome(list(jobs[0])).write(folder / "0")
    (folder / "0" / "result.json").write_text("{}")
    Progress(platform.node(), 2**22 + 1, 0.0, time.time(), {"captions": 1200}).write(folder / "1")
    return folder


def states(folder: Path) -> list[str]:
    jobs = JobSet.read(folder)
    assert jobs is not None
    return [status.state for status in set_status(folder, jobs)]


def test_the_same_words_go_on_where_a_multirun_was_stopped(
    stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert continued(WORDS) == [*WORDS, f"hydra.sweep.dir='{stopped}'"]
    assert "1 of 4 jobs are done" in capsys.readouterr().err
    assert continued(WORDS[1:]) == WORDS[1:]
    assert continued([*WORDS, "seed=1"]) == [*WORDS, "seed=1"]
    assert continued([*WORDS, "hydra/launcher=joblib"])[-1] == f"hydra.sweep.dir='{stopped}'"


def test_other_code_begins_anew(stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    JobSet(tuple(WORDS[1:]), jobs_of(WORDS[1:]), "other", "").write(stopped)
    assert continued(WORDS) == WORDS
    assert "the code has changed" in capsys.readouterr().err


def test_a_multirun_that_is_done_or_at_work_is_not_continued(stopped: Path) -> None:
    lock = FileLock(stopped / ".running")  # of another process
    lock.acquire()
    assert continued(WORDS) == WORDS
    with pytest.raises(UsageError, match="another process runs this multirun"):
        continued([*WORDS, f"hydra.sweep.dir={stopped}"])
    lock.release()
    for number, words in enumerate(jobs_of(WORDS[1:])):
        Outcome(list(words)).write(stopped / str(number))
        (stopped / str(number) / "result.json").write_text("{}")
    assert continued(WORDS) == WORDS


def test_settings_that_take_something_away_count(stopped: Path) -> None:
    assert continued([*WORDS, "~evaluator.planted"]) == [*WORDS, "~evaluator.planted"]
    other = [*WORDS, "--config-dir", "elsewhere"]
    assert continued(other) == other


def test_a_folder_of_another_multirun_is_refused(stopped: Path) -> None:
    with pytest.raises(UsageError, match="folder of another multirun: scorer=topk_log,semantic blur=0,2"):
        continued(["-m", "seed=0,1", f"hydra.sweep.dir={stopped}"])


def test_the_status_says_done_running_failed_stopped_or_missing(stopped: Path) -> None:
    assert states(stopped) == ["done", "stopped", "missing", "missing"]
    Progress.here().at({}).write(stopped / "2")
    Outcome(["x"], failure="no room\nat all").write(stopped / "3")
    assert states(stopped) == ["done", "stopped", "running", "failed"]
    assert run_status(stopped / "3").detail == "no room"
    assert run_status(stopped / "1").detail == f"{platform.node()}, process {2**22 + 1}: 1,200 captions"


def test_a_run_of_another_machine_is_running_as_long_as_it_is_heard_of(tmp_path: Path) -> None:
    here = Progress("elsewhere", os.getpid(), 0.0, 1000.0, {})
    assert here.is_alive(1030.0)
    assert not here.is_alive(1100.0)


def test_the_command_shows_the_latest_multirun(
    stopped: Path, command_line: CommandLine, tmp_path: Path
) -> None:
    assert stopped.exists()
    done = command_line(["status"])
    assert done.returncode == 1
    assert "1 done, 1 stopped, 2 missing" in done.stdout


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "1/2/3", ""])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no shard: 2/4 is the second one of four"):
        Shard.parsed(text)


def test_shards_have_all_items_between_them() -> None:
    shards = [Shard.parsed(f"{number}/3") for number in (1, 2, 3)]
    assert sorted(item for shard in shards for item in shard.of(range(10))) == list(range(10))
    assert [shard.own_first(range(6))[0] for shard in shards] == [0, 2, 4]
    assert sorted(shards[1].own_first(range(7))) == list(range(7))


SHARD = """
import json, sys
from dnr_bench.app.composition import load_config
from dnr_bench.app.configuration import build_run
from dnr_bench.app.run import run

config = build_run(load_config(*sys.argv[2:]), sharded=True)
result = run(config)
labels = {str(n.layer) + str(n.unit): n.labels for n in result.neurons}
counts = {name: count.misses for name, count in result.stages.items()}
json.dump([labels, counts], open(sys.argv[1], "w"))
"""


@pytest.mark.slow
def test_four_shards_side_by_side_do_what_one_run_does(tmp_path: Path) -> None:
    words = [word for word in SMALL if word != "neurons.sample=3"] + ["neurons.sample=12"]

    def started(name: str, *more: str) -> subprocess.Popen[bytes]:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
        return subprocess.Popen(
            [sys.executable, "-c", SHARD, str(tmp_path / name), *words, *more], env=environment
        )

    def read(name: str) -> tuple[dict[str, list[str]], dict[str, int]]:
        labels, counts = json.loads((tmp_path / name).read_text())
        return labels, counts

    alone = started("alone", f"paths.store={tmp_path / 'one'}")
    assert alone.wait() == 0
    shared = f"paths.store={tmp_path / 'four'}"
    shards = [started(f"shard{n}", shared, f"shard={n}/4") for n in range(1, 5)]
    assert [shard.wait() for shard in shards] == [0] * 4
    assert started("after", shared).wait() == 0
    labels, misses = read("alone")
    assert read("after")[0] == labels
    done: Counter[str] = Counter()
    for n in range(1, 5):
        of_shard, counts = read(f"shard{n}")
        assert {neuron: labels[neuron] for neuron in of_shard} == of_shard
        done.update(counts)
    stages = ("exemplars", "captions", "candidates", "images", "image_activations")
    assert {name: done[name] for name in stages} == {name: misses[name] for name in stages}
    assert sum(n for name, n in read("after")[1].items() if name != "evaluation") == 0


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_launchers_run_jobs_under_one_parent(launcher: str, tmp_path: Path, process: CommandLine) -> None:
    words = ["-m", *SMALL, "scorer=topk_log,semantic", "blur=0,2,4", f"hydra/launcher={launcher}"]
    done = process(words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Jobs of this multirun") == 1
    client = MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    runs = client.search_runs(["1"])
    (parent,) = [run.info.run_id for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert [run.info.status for run in runs] == ["FINISHED"] * 7
    assert [run.data.tags.get("mlflow.parentRunId", parent) for run in runs] == [parent] * 7


@pytest.mark.slow
def test_a_killed_multirun_goes_on_and_mlflow_has_each_job_once(tmp_path: Path, process: CommandLine) -> None:
    words = ["-m", *SMALL, "scorer=topk_log,semantic", "blur=0,2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    first_try = subprocess.Popen(
        [sys.executable, "-m", "dnr_bench", *words],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not list(tmp_path.glob("mlruns/runs/*/1/progress.json")):
        assert first_try.poll() is None
        time.sleep(0.05)
    first_try.kill()
    first_try.wait()
    (folder,) = tmp_path.glob("mlruns/runs/*")
    assert states(folder)[0] == "done"
    first = (folder / "0" / "result.json").read_bytes()
    done = process(words)
    assert done.returncode == 0, done.stderr
    assert states(folder) == ["done"] * 4
    assert (folder / "0" / "result.json").read_bytes() == first
    assert list(tmp_path.glob("mlruns/runs/*")) == [folder]
    client = MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    names = [run.info.run_name for run in client.search_runs(["1"])]
    assert sorted(names) == [
        "scorer × blur", "semantic · blur 0", "semantic · blur 2", "topk_log · blur 0", "topk_log · blur 2",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_shard_says_what_comes_next_and_is_no_run(tmp_path: Path, command_line: CommandLine) -> None:
    done = command_line([*SMALL, "shard=1/3"])
    assert done.returncode == 0, done.stderr
    assert "shard 1/3: 1 neurons in" in done.stdout
    assert not list(tmp_path.glob("mlruns/runs/*/result.json"))
    refused = command_line([*SMALL, "shard=4/4"])
    assert refused.returncode == 2
    assert "there are 3 neurons" in refused.stderr
