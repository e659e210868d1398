"""Studies: a trial is arithmetic, held-out neurons have no say, and a killed study goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
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
from dnr_bench.app.composition import load_config
from dnr_bench.app.configuration import build_run
from dnr_bench.app.run import run
from dnr_bench.data.evidence import Evidence
from dnr_bench.data.neuron import Neuron
from dnr_bench.infra.errors import RunError, UsageError
from dnr_bench.protocols import Scorer
from dnr_bench.scorers.ranks import MeanRank
from sweeps.__main__ import Study, _identity, main
from sweeps.evidence import Case, Outcome, cases_of, check_metric, outcome
from sweeps.judging import folds_of
from sweeps.papers import PapersStudy
from sweeps.pipeline import Halves, Judged, PipelineStudy
from sweeps.results import StudyResult
from sweeps.scoring import ScoringStudy
from sweeps.space import Value, check_search_range, grid
from sweeps.storage import Studies, distinct, fill_grid
from tests.conftest import SMALL
from tests.helpers.building import build

#: Settings of the runs; and of the study.
OF_RUNS = (*SMALL, "captioner=dataset", "evaluator=[planted]")
WORDS = (*OF_RUNS, "study=scoring", "study.seeds=[0]", "study.folds=3")


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


@pytest.mark.parametrize("given", [[3, 1], [1, 2, 2], [], [1, "two"], [0.5], [True, False], ["a", "a"]])
def test_what_is_no_range_is_refused(given: Sequence[float | str]) -> None:
    with pytest.raises(UsageError, match=r"must be \[low, high\], or three or more numbers or words"):
        check_search_range("space.semantic.k", given)


def small_study(*overrides: str) -> ScoringStudy:
    study = build(load_config(*WORDS, *overrides, name="sweep").study, Study, "study")
    assert isinstance(study, ScoringStudy)
    return study


@pytest.fixture
def words(tmp_path: Path, shared_store: Path) -> list[str]:
    return [*WORDS, f"paths.store={shared_store}", f"paths.mlruns={tmp_path / 'mlruns'}"]


@pytest.mark.slow
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


@pytest.mark.slow
def test_neurons_of_a_fold_have_no_say_in_what_it_is_judged_by(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [case(unit) for unit in range(12)]
    fold_of = folds_of([c.neuron for c in cases], 3, 0)
    spoiled = [replace(c, quality=c.quality[::-1].copy()) if fold_of[c.neuron] == 1 else c for c in cases]
    params = []
    for name, found in (("a", cases), ("b", spoiled)):
        monkeypatch.setattr("sweeps.scoring.gathered", lambda *_, cases=found: list(cases))
        result = small_study().run(
            load_config(*words, name="sweep"), words, Studies(tmp_path / f"{name}.journal", 0, 0), name, 24
        )
        params.append([row for row in result.trials if row["study"] == f"{name}-1"])
    keep = [{k: v for k, v in row.items() if k not in ("study", "seconds")} for row in params[0]]
    assert keep == [{k: v for k, v in row.items() if k not in ("study", "seconds")} for row in params[1]]
    assert len(keep) == 8


@pytest.mark.slow
def test_fewer_images_are_a_second_aim(words: list[str], tmp_path: Path) -> None:
    words += ["study=budget", "study.budget.images_per_concept=[1,4]"]
    study = build(load_config(*words, name="sweep").study, Study, "study")
    found = study.run(
        load_config(*words, name="sweep"), words, Studies(tmp_path / "a.journal", 0, 0), "a", 45
    )
    curve = found.tables["curve"]
    budgets = [point["budget"] for point in curve]
    assert budgets == sorted(budgets)
    assert all(point["images"] <= point["budget"] <= 20 for point in curve)
    assert any(word.startswith("n_candidates=") for word in found.best)
    assert all(row["value1"] == row["n_candidates"] * row["images_per_concept"] for row in found.trials)


def of_papers(words: list[str], *more: str) -> PapersStudy:
    replaced = ["study=papers" if word == "study=scoring" else word for word in words]
    study = build(load_config(*replaced, *more, name="sweep").study, Study, "study")
    assert isinstance(study, PapersStudy)
    return study


GRIDS = "study.space=[{topk_log:{k:[1,4]}},{semantic:{alpha:[0.0,0.5,0.7,1.0],k:[1,5]}}]"


@pytest.mark.slow
def test_each_scoring_function_of_the_papers_is_tuned_over_its_whole_grid(
    words: list[str], tmp_path: Path
) -> None:
    study, config = of_papers(words, GRIDS), load_config(*words, name="sweep")
    found = study.run(config, words, Studies(tmp_path / "a.journal", 0, 0), "a", 500)
    assert [row.name.split()[0] for row in found.rows] == ["topk_log", "semantic"]
    points = [point for point in found.tables["response"] if point["scorer"] == "semantic"]
    assert {(p["alpha"], p["k"]) for p in points} == {
        (a, k) for a in (0.0, 0.5, 0.7, 1.0) for k in range(1, 6)
    }
    assert [(p["alpha"], p["k"]) for p in points if p["papers"]] == [(0.7, 5)]
    (best,) = (point for point in points if point["best"])
    assert best["mean"] == max(point["mean"] for point in points)
    of_runs = [*OF_RUNS, *(word for word in words if word.startswith("paths."))]
    chosen = [f"scorer.{name}={best[name]}" for name in ("alpha", "k")]
    result = run(build_run(load_config(*of_runs, "scorer=semantic", *chosen)))
    assert best["mean"] == pytest.approx(result.metrics[study.metric].mean)
    assert set(found.figures) == {"response_topk_log", "response_semantic"}
    commands = {advice.overrides[0]: advice.overrides for advice in found.recommended}
    assert set(commands) == {"scorer=topk_log", "scorer=semantic"}
    again = study.run(config, words, Studies(tmp_path / "a.journal", 0, 0), "a", 500)
    assert len(again.trials) == len(found.trials) == 4 + 20
    assert [row.quality for row in again.rows] == [row.quality for row in found.rows]


def tuned(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cases: list[Case],
    space: str,
    *more: str,
) -> StudyResult:
    """A study of the papers' settings on made-up evidence."""
    monkeypatch.setattr("sweeps.papers.gathered", lambda *_: cases)
    study = of_papers(words, f"study.space={space}", *more)
    name = f"{len(list(tmp_path.iterdir()))}"
    return study.run(
        load_config(*words, name="sweep"), words, Studies(tmp_path / f"{name}.journal", 0, 0), name, 500
    )


def peaked(unit: int) -> Case:
    """A neuron whose truth has the one highest image, and whose other candidate has more good ones."""
    activations = np.asarray([[9.0, 0.1, 0.1, 0.1, 0.1, 0.1], [8.0, 7.0, 7.0, 7.0, 7.0, 7.0]])
    activations = activations + np.random.default_rng(unit).normal(scale=0.01, size=activations.shape)
    quality = np.asarray([1.0, 0.0])
    given = replace(case(unit, candidates=2).evidence, activations=activations)
    return replace(case(unit, candidates=2), evidence=given, quality=quality)


def test_a_gain_on_held_out_neurons_changes_the_recommendation_and_chance_does_not(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = tuned(
        words, tmp_path, monkeypatch, [peaked(unit) for unit in range(20)], "[{topk_log:{k:[1,6]}}]"
    )
    assert found.best == ("scorer=topk_log", "scorer.k=1")
    (row,) = found.rows
    assert (row.quality.mean, row.given.mean, row.gain.mean) == (1.0, 0.0, 1.0)
    assert row.p_holm < 0.001
    noise = [case(unit) for unit in range(20)]
    found = tuned(words, tmp_path, monkeypatch, noise, "[{topk_log:{k:[1,6]}}]")
    assert found.best == ("scorer=topk_log", "scorer.k=5")
    assert "nothing gains more than chance" in found.recommended[0].purpose


def test_neurons_that_judge_a_tuned_setting_do_not_choose_it(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [peaked(unit) for unit in range(12)]
    fold_of = folds_of([c.neuron for c in cases], 6, 0)
    spoiled = [replace(c, quality=c.quality[::-1].copy()) if fold_of[c.neuron] == 1 else c for c in cases]
    found = tuned(words, tmp_path, monkeypatch, spoiled, "[{topk_log:{k:[1,6]}}]", "study.folds=6")
    # of all other folds k=1 is best, which is wrong for both neurons of the spoiled one
    assert found.rows[0].quality.mean == pytest.approx(10 / 12)


def test_of_equal_settings_the_one_nearest_to_the_papers_is_chosen(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alike = [replace(case(unit), quality=np.ones(4)) for unit in range(9)]
    space = "[{semantic:{alpha:[0.0,1.0],k:[1,10]}}]"
    found = tuned(words, tmp_path, monkeypatch, alike, space)
    assert found.rows[0].name == "semantic alpha=0.7 k=5"


def test_an_interrupted_point_of_a_grid_is_evaluated_when_the_study_goes_on(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.papers.gathered", lambda *_: [peaked(unit) for unit in range(6)])
    study = of_papers(words, "study.space=[{topk_log:{k:[1,6]}}]")
    config, studies = load_config(*words, name="sweep"), Studies(tmp_path / "a.journal", 0, 0)
    points = []

    def interrupted(cases: list[Case], scorer: Scorer) -> Outcome:
        points.append(scorer)
        if len(points) == 4:
            raise KeyboardInterrupt
        return outcome(cases, scorer)

    monkeypatch.setattr("sweeps.papers.outcome", interrupted)
    with pytest.raises(KeyboardInterrupt):
        study.run(config, words, studies, "a", 500)
    for _ in range(2):
        found = study.run(config, words, studies, "a", 500)
        assert sorted(row["k"] for row in found.trials) == [1, 2, 3, 4, 5, 6]
    assert len(points) == 7


def test_what_two_processes_evaluated_counts_once(tmp_path: Path) -> None:
    study = Studies(tmp_path / "a.journal", 0, 0).open("a", 0, ["maximize"], ["quality"])

    def evaluate(point: Mapping[str, Value]) -> tuple[float, dict[str, object]]:
        if len(study.trials) == 1:  # another process is faster with the next point
            other = Studies(tmp_path / "a.journal", 0, 1).open("a", 0, ["maximize"], ["quality"])
            fill_grid(other, {"k": [1, 2, 3]}, lambda p: (float(p["k"]), {}), 2, 0, lambda _: None)
        return float(point["k"]), {}

    fill_grid(study, {"k": [1, 2, 3]}, evaluate, 3, 0, lambda _: None)
    assert sorted(trial.params["k"] for trial in distinct(study)) == [1, 2, 3]
    assert len(study.trials) == 4


@pytest.mark.parametrize("space", ["[{semantic:{normalize:[none,exemplar]}}]", "[{semantic:{}}]"])
def test_what_cannot_be_drawn_is_refused_early(words: list[str], space: str) -> None:
    with pytest.raises(UsageError, match=r"one or two settings, numbers|at least one setting"):
        of_papers(words, f"study.space={space}")


def test_halves_are_the_same_in_every_run_of_a_study() -> None:
    def judged(items: Sequence[str]) -> Judged:
        return Judged(tuple((0, item, "", 1.0) for item in items))

    names = [f"layer:{unit}" for unit in range(12)]
    halves = Halves.of("m", judged(names), seed=0)
    tuning = {item for _, item in halves.tuning(judged(names))}
    assert len(tuning) == 6
    fewer = judged([*names[3:], "layer:99"])
    assert {item for _, item in halves.tuning(fewer)} - {"layer:99"} == tuning & set(names[3:])
    sides = [halves.tuning(fewer), halves.held_out(fewer)]
    assert sum((0, "layer:99") in side for side in sides) == 1


def test_a_grid_has_all_whole_numbers_or_even_steps() -> None:
    assert grid([2, 5]) == [2, 3, 4, 5]
    assert grid([0.0, 1.0]) == [round(0.05 * step, 2) for step in range(21)]
    assert grid([1, 2, 5]) == [1, 2, 5]
    assert grid(["none", "exemplar"]) == ["none", "exemplar"]


def of_pipeline(words: list[str], space: str, *more: str) -> tuple[PipelineStudy, list[str]]:
    """A study of runs, and the words of its runs."""
    kept = [word for word in words if not word.startswith(("study", "evaluator"))]
    kept += ["study=pipeline", f"study.space={space}", *more]
    study = build(load_config(*kept, name="sweep").study, Study, "study")
    assert isinstance(study, PipelineStudy)
    return study, kept


@pytest.mark.slow
def test_a_study_of_runs_searches_a_scorers_own_settings_and_gives_a_front(
    words: list[str], tmp_path: Path
) -> None:
    space = "[{images_per_concept:[1,2,4]},{scorer:{topk_log:{k:[1,4]},semantic:{alpha:[0.0,1.0]}}}]"
    study, kept = of_pipeline(words, space, "study.seeds=[0]")
    config = load_config(*kept, name="sweep")
    found = study.run(config, kept, Studies(tmp_path / "a.journal", 0, 0), "a", 3)
    assert sum(row["state"] in ("complete", "pruned") for row in found.trials) == 3
    front = found.tables["front"]
    costs = [row["cost.images_per_neuron"] for row in front]
    assert costs == sorted(costs)
    assert [row["tuning"] for row in front] == sorted(row["tuning"] for row in front)
    assert any(word.startswith(("scorer.k=", "scorer.alpha=")) for word in found.best)
    assert {"front", "pareto"} <= found.figures.keys()
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(tmp_path / "a.journal")))
    kept_study = optuna.load_study(study_name="a", storage=storage)
    assert kept_study.metric_names == ["planted.attribute_f1", "cost.images_per_neuron"]
    trial = kept_study.best_trials[0]
    judged = Judged.read(trial.user_attrs["values"])
    assert {item for _, item, _, _ in judged.rows} > {"concepts:0", "concepts:9"}
    assert "scorer=" in trial.user_attrs["command"]
    assert max(map(len, trial.user_attrs["values"].splitlines())) < 200  # as pages show it line by line


@pytest.mark.slow
def test_any_metric_with_values_per_item_can_be_searched_without_planted_truth(
    words: list[str], tmp_path: Path
) -> None:
    layers = ["neurons.layers=[fc]", "neurons.units=0-5"]
    more = ["study.metric=fc_layer.sentence_cos", "study.seeds=[0]"]
    study, kept = of_pipeline([*words, *layers], "[{n_candidates:[1,2,3]}]", *more)
    config = load_config(*kept, name="sweep")
    found = study.run(config, kept, Studies(tmp_path / "a.journal", 0, 0), "a", 2)
    assert found.rows[0].quality.n == 3  # the other half of six
    with_own = [*kept, "evaluator=[fc_layer]"]  # to which the evaluator of the costs is added
    again = study.run(
        load_config(*with_own, name="sweep"), with_own, Studies(tmp_path / "a.journal", 0, 0), "a", 2
    )
    assert [row.quality for row in again.rows] == [row.quality for row in found.rows]
    wrong, kept = of_pipeline(words, "[{n_candidates:[1,2,3]}]", "study.metric=planted.wrong")
    with pytest.raises(UsageError, match=r"of which more is better; here: planted\.exact"):
        wrong.run(config, kept, Studies(tmp_path / "b.journal", 0, 0), "b", 2)


def test_workers_share_the_trials_of_one_study(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judged(_study: PipelineStudy, overrides: Sequence[str], of_seed: int) -> Judged:
        given = next((word for word in overrides if word.startswith("blur=")), "blur=0")
        rows = tuple((of_seed, f"layer:{unit}", "label", float(given[5:]) / 9) for unit in range(4))
        return Judged(rows, {})

    monkeypatch.setattr(PipelineStudy, "_judged", judged)
    study, kept = of_pipeline(words, "[{blur:[0.0,9.0]}]", "study.seeds=[0]", "study.costs=[]")
    config, journal = load_config(*kept, name="sweep"), tmp_path / "a.journal"
    first = study.run(config, kept, Studies(journal, 0, 0), "a", 3)
    both = study.run(config, kept, Studies(journal, 0, 1), "a", 6)
    assert [row["blur"] for row in both.trials][:3] == [row["blur"] for row in first.trials]
    alone = study.run(config, kept, Studies(tmp_path / "b.journal", 0, 0), "a", 6)
    assert [row["blur"] for row in both.trials] != [row["blur"] for row in alone.trials]
    assert both.recommended[0].overrides[0] == f"blur={max(row['blur'] for row in both.trials):.3g}"


def test_a_trial_that_is_worse_for_more_ends_after_a_seed(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judged(_study: PipelineStudy, overrides: Sequence[str], of_seed: int) -> Judged:
        good = not any(word.startswith("n_candidates=") and word != "n_candidates=1" for word in overrides)
        rows = tuple((of_seed, f"layer:{unit}", f"label {unit}", 0.9 if good else 0.1) for unit in range(20))
        return Judged(rows, {"cost.images_per_neuron": (1.0 if good else 5.0,)})

    monkeypatch.setattr(PipelineStudy, "_judged", judged)
    study, kept = of_pipeline(words, "[{n_candidates:[1,2,3]}]", "study.seeds=[0,1]")
    config = load_config(*kept, name="sweep")
    found = study.run(config, kept, Studies(tmp_path / "a.journal", 0, 0), "a", 12)
    states = {(row["n_candidates"] == 1, row["state"]) for row in found.trials}
    assert {(True, "complete"), (False, "pruned")} <= states
    first_good = min(row["trial"] for row in found.trials if row["n_candidates"] == 1)
    assert all(
        row["state"] == "pruned"
        for row in found.trials
        if row["n_candidates"] != 1 and row["trial"] > first_good
    )
    assert found.best == ("n_candidates=1",)


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


@pytest.mark.slow
def test_a_killed_study_goes_on_where_it_was(words: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sweeps", *words, "n_trials=30", "mlflow.trials=3"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    studies = tmp_path / "mlruns" / "studies"
    while not any(started(journal) >= 9 for journal in studies.glob("*.journal")):
        assert process.poll() is None, "the study ended too early"
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (journal,) = studies.glob("*.journal")
    before = finished(journal)
    assert 0 < len(before) < 30
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert again.returncode == 0, again.stderr
    after = finished(journal)
    assert len(after) == 30
    assert before.items() <= after.items()
    assert "found by the study" in again.stdout


@pytest.mark.parametrize(
    "storage", ["foo", "sqlite:////nowhere/at/all/x.db", "mysql+nothing://user:secret@127.0.0.1/db"]
)
def test_a_storage_that_cannot_be_used_is_named_without_its_password(storage: str) -> None:
    with pytest.raises(RunError, match="cannot hold the study a") as caught:
        Studies(storage, 0, 0).open("a", 0, ["maximize"], ["quality"])
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

    tracker = Tracker(tracking_place(tmp_path / "mlruns"), "dnr_bench_studies")
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


def test_a_metric_without_values_to_choose_by_is_named() -> None:
    with pytest.raises(
        UsageError, match=r"with a value for each neuron of which more is better; here: planted\.exact"
    ):
        check_metric("planted.wrong", ["planted.exact"])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("study.metric=fc_layer.clip_cos", "is of no evaluator of these settings: planted"),
        ("study.folds=1", "folds=1 must be at least 2"),
        ("study.space=[{semantic:{k:[5,1]}}]", r"must be [low, high]"),
        ("n_trials=0", "n_trials=0 must be a number of at least 1"),
        ("n_trials=2", "must be at least the number of folds (3)"),
        ("study=nope", "nope"),
        ("worker=-1", "worker=-1 must be a number of at least 0"),
        ("mlflow.trials=few", "mlflow.trials=few must be all, or a number"),
        ("refine=iterative", "need refine=none"),
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
