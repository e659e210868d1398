"""Studies: a trial is arithmetic, held-out neurons have no say, and a killed study goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from dnr_bench.app.command_line import exit_code_of
from dnr_bench.app.configuration import build_run, load_config
from dnr_bench.app.run import run
from dnr_bench.data.evidence import Evidence
from dnr_bench.data.neuron import Neuron
from dnr_bench.infra.errors import RunError, UsageError
from dnr_bench.scorers.ranks import MeanRank
from sweeps.__main__ import Study, _identity, main
from sweeps.evidence import Case, cases_of, outcome
from sweeps.scoring import ScoringStudy, folds_of
from sweeps.space import check_search_range
from sweeps.storage import Studies
from tests.conftest import SMALL
from tests.helpers.building import build

#: Settings of the runs; and of the study.
OF_RUNS = (*SMALL, "captioner=dataset", "evaluator=[planted]", "evaluator.planted.reciprocal_rank=false")
WORDS = (*OF_RUNS, "study.seeds=[0]", "study.folds=3")


def case(unit: int, seed: int = 0, candidates: int = 4, images: int = 6) -> Case:
    rng = np.random.default_rng([unit, seed])
    evidence = Evidence(
        rng.normal(size=(candidates, images)),
        rng.normal(size=(candidates, images)),
        rng.normal(size=candidates),
        1.0,
        rng.normal(size=candidates),
        rng.random(candidates),
        rng.random((candidates, images)) < 0.7,
        0.1,
    )
    texts = tuple(f"concept {unit}.{i}" for i in range(candidates))
    return Case(seed, Neuron("layer", unit), texts, evidence, rng.random(candidates))


@given(n=st.integers(2, 40), folds=st.integers(2, 6), seed=st.integers(0, 100))
def test_folds_part_the_neurons_evenly_whatever_their_order(n: int, folds: int, seed: int) -> None:
    neurons = [Neuron("layer", unit) for unit in range(n)]
    found = folds_of([*neurons, *neurons], folds, seed)
    assert found == folds_of(neurons[::-1], folds, seed)
    sizes = [list(found.values()).count(fold) for fold in range(folds)]
    assert max(sizes) - min(sizes) <= 1
    assert sum(sizes) == n


def test_a_cut_case_is_the_case_with_less_evidence() -> None:
    whole = case(0)
    few = whole.cut(n_candidates=2, images_per_concept=3)
    assert few.candidates == whole.candidates[:2]
    assert np.array_equal(few.evidence.activations, whole.evidence.activations[:2, :3])
    assert few.evidence.probe_correlation is not None
    assert len(few.evidence.probe_correlation) == len(few.quality) == 2
    assert whole.cut(n_candidates=9, images_per_concept=9).answer(MeanRank()) == whole.answer(MeanRank())


def test_an_answer_is_worth_its_quality_and_none_is_worth_nothing() -> None:
    good, blind = case(1), case(2)
    blind = replace(
        blind, evidence=replace(blind.evidence, activations=np.full_like(blind.evidence.activations, np.nan))
    )
    best = int(np.argmax(MeanRank().score(good.evidence)))
    found = outcome([good, blind], MeanRank())
    assert found.quality.tolist() == [good.quality[best], 0.0]
    assert found.labels == (good.candidates[best], "")


@pytest.mark.parametrize("given", [[3, 1], [1, 2, 3], [], [1, "two"], [0.5], [True, False]])
def test_what_is_no_range_is_refused(given: Sequence[float | str]) -> None:
    with pytest.raises(UsageError, match=r"must be \[low, high\], or words"):
        check_search_range("space.semantic.k", given)


def small_study(*overrides: str) -> ScoringStudy:
    study = build(load_config(*WORDS, *overrides, name="sweep").study, Study, "study")
    assert isinstance(study, ScoringStudy)
    return study


@pytest.fixture
def words(tmp_path: Path, shared_store: Path) -> list[str]:
    return [*WORDS, f"paths.store={shared_store}", f"paths.mlruns={tmp_path / 'mlruns'}"]


def test_what_a_study_finds_is_what_a_run_with_it_gives(words: list[str], tmp_path: Path) -> None:
    study, config = small_study(), load_config(*words, name="sweep")
    found = study.run(config, words, Studies(tmp_path / "a.journal", 0, 0), "a", 30)
    assert [row.name for row in found.rows] == ["found by the study", *study.compared]
    assert sum(row["state"] == "complete" for row in found.trials) == 30
    cases = cases_of(build_run(config), study.metric)
    assert found.rows[0].quality.n == len(cases) == 9  # neither the dead unit nor the random one
    of_runs = [*OF_RUNS, *(word for word in words if word.startswith("paths."))]
    result = run(build_run(load_config(*of_runs, *found.best)))
    chosen = result.metrics[study.metric].mean
    assert chosen >= max(row.quality.mean for row in found.rows[1:]) - 1e-9
    given = run(build_run(load_config(*of_runs, "scorer=topk_log")))
    topk_log = next(row for row in found.rows if row.name == "topk_log")
    assert topk_log.quality.mean == pytest.approx(given.metrics[study.metric].mean)
    assert topk_log.gain is not None
    assert topk_log.gain.mean == pytest.approx(found.rows[0].quality.mean - topk_log.quality.mean)


def test_neurons_of_a_fold_have_no_say_in_what_it_is_judged_by(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [case(unit) for unit in range(12)]
    fold_of = folds_of([c.neuron for c in cases], 3, 0)
    spoiled = [replace(c, quality=c.quality[::-1].copy()) if fold_of[c.neuron] == 1 else c for c in cases]
    params = []
    for name, found in (("a", cases), ("b", spoiled)):
        monkeypatch.setattr(ScoringStudy, "_cases", lambda _self, _config, cases=found: list(cases))
        result = small_study().run(
            load_config(*words, name="sweep"), words, Studies(tmp_path / f"{name}.journal", 0, 0), name, 24
        )
        params.append([row for row in result.trials if row["study"] == f"{name}-1"])
    keep = [{k: v for k, v in row.items() if k not in ("study", "seconds")} for row in params[0]]
    assert keep == [{k: v for k, v in row.items() if k not in ("study", "seconds")} for row in params[1]]
    assert len(keep) == 8


def test_fewer_images_are_a_second_aim(words: list[str], tmp_path: Path) -> None:
    words += ["study=budget", "study.budget.images_per_concept=[1,4]"]
    study = build(load_config(*words, name="sweep").study, Study, "study")
    found = study.run(
        load_config(*words, name="sweep"), words, Studies(tmp_path / "a.journal", 0, 0), "a", 45
    )
    budgets = [point["budget"] for point in found.curve]
    assert budgets == sorted(budgets)
    assert all(point["images"] <= point["budget"] <= 20 for point in found.curve)
    assert any(word.startswith("n_candidates=") for word in found.best)
    assert all(row["value1"] == row["n_candidates"] * row["images_per_concept"] for row in found.trials)


def test_a_study_of_runs_is_judged_on_the_other_half(words: list[str], tmp_path: Path) -> None:
    words.remove("study.seeds=[0]")
    words += ["study=pipeline", "study.seeds=[0,1]", "study.space=[{blur:[0.0,4.0]},{exemplars.n:[3,8]}]"]
    words.remove("study.folds=3")
    study = build(load_config(*words, name="sweep").study, Study, "study")
    found = study.run(load_config(*words, name="sweep"), words, Studies(tmp_path / "a.journal", 0, 0), "a", 3)
    assert sum(row["state"] in ("complete", "pruned") for row in found.trials) == 3
    assert {word.split("=")[0] for word in found.best} == {"blur", "exemplars.n"}
    names = {(r["seed"], r["unit"]) for r in found.study.best_trial.user_attrs["held_out"]}
    half = folds_of([Neuron("concepts", unit) for unit in (0, 9, 13, 20, 27, 35, 40, 50, 53, 60, 62)], 2, 0)
    assert all(half[Neuron("concepts", unit)] == 1 for _, unit in names)
    assert {seed for seed, _ in names} == {0, 1}


def finished(journal: Path) -> dict[tuple[str, int], dict[str, object]]:
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal)))
    return {
        (summary.study_name, trial.number): dict(trial.params)
        for summary in optuna.get_all_study_summaries(storage)
        for trial in optuna.load_study(study_name=summary.study_name, storage=storage).trials
        if trial.state == TrialState.COMPLETE
    }


def started(journal: Path) -> int:
    """Trials that were started; cheap enough to ask while the study runs."""
    return sum("datetime_start" in log for log in JournalFileBackend(str(journal)).read_logs(0))


def test_a_killed_study_goes_on_where_it_was(words: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sweeps", *words, "n_trials=60", "mlflow.trials=3"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    studies = tmp_path / "mlruns" / "studies"
    while not any(started(journal) >= 17 for journal in studies.glob("*.journal")):
        assert process.poll() is None, "the study ended too early"
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (journal,) = studies.glob("*.journal")
    before = finished(journal)
    assert 0 < len(before) < 60
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert again.returncode == 0, again.stderr
    after = finished(journal)
    assert len(after) == 60
    assert before.items() <= after.items()
    assert "found by the study" in again.stdout


@pytest.mark.parametrize(
    "storage", ["foo", "sqlite:////nowhere/at/all/x.db", "mysql+nothing://user:secret@127.0.0.1/db"]
)
def test_a_storage_that_cannot_be_used_is_named_without_its_password(storage: str) -> None:
    with pytest.raises(RunError, match="cannot hold the study a") as caught:
        Studies(storage, 0, 0).open("a", 0, ["maximize"])
    assert "secret" not in str(caught.value)


def test_what_a_study_depends_on_is_in_its_name(words: list[str]) -> None:
    def name(*more: str) -> str:
        config = load_config(*words, *more, name="sweep")
        return _identity(config, build(config.study, Study, "study"))

    assert name() == name("mlflow.trials=all") == name("report=false") == name("n_trials=7")
    others = [name("++study.judge.shown=0.5"), name("study.folds=4"), name("blur=1"), name("seed=1")]
    assert len({name(), *others}) == 5


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    return exit_code_of(lambda: main(words), words)


def test_the_command_prints_and_logs_a_study(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, *words, "n_trials=24", "mlflow.trials=4") == 0
    shown = capsys.readouterr().out
    assert "planted.attribute_f1 of held-out neurons" in shown
    assert "topk_squared_image_products" in shown
    from dnr_bench.outputs.mlflow.places import tracking_place
    from dnr_bench.outputs.mlflow.tracker import Tracker

    tracker = Tracker(tracking_place(tmp_path / "mlruns"), "dnr_bench")
    runs = tracker.client.search_runs([tracker.experiment_id])
    parent = next(r for r in runs if "held_out" in r.data.metrics)
    children = [r for r in runs if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(children) == 4
    assert parent.data.params["study"] == "scoring"
    assert "best.scorer" in parent.data.params
    files = {item.path for item in tracker.client.list_artifacts(parent.info.run_id)}
    assert files >= {"held_out.json", "trials.json", "history.png", "slice.png"}
    (path,) = (tmp_path / "mlruns" / "artifacts").glob(f"{parent.info.run_id}/artifacts/trials.json")
    assert len(json.loads(path.read_text())["data"]) == 24


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("study.metric=fc_layer.clip_cos", "is of no evaluator of these settings: planted"),
        (
            "study.metric=planted.wrong",
            "must be a metric with a value for each neuron of which more is better",
        ),
        ("study.folds=1", "folds=1 must be at least 2"),
        ("study.space=[{semantic:{k:[5,1]}}]", r"must be [low, high]"),
        ("n_trials=0", "n_trials=0 must be a number of at least 1"),
        ("n_trials=2", "must be at least the number of folds (3)"),
        ("study=nope", "nope"),
        ("worker=-1", "worker=-1 must be a number of at least 0"),
        ("mlflow.trials=few", "mlflow.trials=few must be all, or a number"),
        ("refine=iterative", "needs refine=none"),
    ],
)
def test_wrong_studies_are_refused_with_what_is_allowed(
    words: list[str],
    wrong: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(monkeypatch, *words, wrong) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown
