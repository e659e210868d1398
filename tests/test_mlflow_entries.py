"""What MLflow is given: numbers in one form, few metrics in sections, names that say what varied."""

from __future__ import annotations

import json
from math import nan

import pytest

from dnr_bench.app.job_sets import jobs_of
from dnr_bench.app.multirun import JOBS_VARIABLE, Turn, swept
from dnr_bench.outputs.mlflow.entries import comparison_note, metrics_of_best, params_of
from dnr_bench.outputs.mlflow.views import view_of_jobs
from dnr_bench.results.comparison import ComparisonRow, Outcome, best_row, sweep_name
from dnr_bench.results.settings import shown_value
from dnr_bench.statistics.intervals import Estimate


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0"), (0, "0"), ("0.0", "0"), ("2", "2"), (0.05, "0.05"), (1e-7, "1e-07"), (True, "true"),
     ("true", "true"), (None, "null"), ("red", "red"), ([0.0, 1.5], "[0, 1.5]"), ({"a": 2.0}, '{"a": 2}')],
)  # fmt: skip
def test_a_number_has_one_form(value: object, shown: str) -> None:
    assert shown_value(value) == shown


def test_group_choices_and_settings_are_parameters() -> None:
    scorer = {"_target_": "a.B", "k": 5.0}
    config = {"scorer": scorer, "blur": 0.0, "neurons": {"layers": ["fc"]}, "method": {"scorer": scorer}}
    found = {param.key: param.value for param in params_of(config, {"scorer": "topk_log"})}
    assert found == {"scorer": "topk_log", "scorer.k": "5", "blur": "0", "neurons.layers": '["fc"]'}


def test_names_say_what_varied() -> None:
    outcome = Outcome(["scorer=topk_log", "blur=2", "paths.store=x"], {"scorer": "topk_log"})
    assert outcome.name() == outcome.name(["scorer", "blur"]) == "topk_log · blur 2"
    assert outcome.name(["blur"]) == "blur 2"
    assert Outcome([]).name() == "default settings"
    added = Outcome(["+variant=dnd", "seed=1", "report=false"])
    assert added.name(swept(["+variant=dnd,posterior", "seed=0,1"])) == added.name() == "dnd · seed 1"
    axes = swept(["scorer=topk_log,semantic", "blur=0,2", "seed=1", "neurons.units=[0,1]", "+new=range(1,3)"])
    assert axes == {"scorer": "topk_log,semantic", "blur": "0,2", "new": "range(1,3)"}
    assert sweep_name(axes) == "scorer × blur × new"
    jobs = jobs_of(["scorer=a,b", "blur=0,2,4", "seed=1", "+new=range(1,3)"])
    assert (len(jobs), jobs[1]) == (12, ("scorer=a", "blur=0", "seed=1", "+new=2"))
    assert jobs_of(["seed=1"]) == (("seed=1",),)
    assert jobs_of(["scorer=a,b", "seed=0,1", "scorer=c"]) == (("scorer=c", "seed=0"), ("scorer=c", "seed=1"))


def test_a_job_says_its_turn_and_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Turn.of(0) is None
    monkeypatch.setenv(JOBS_VARIABLE, "6 1000.0 0 in_order")
    second = Turn.of(1)
    assert second is not None
    assert (second.number, second.left(1020.0), second.left(1600.0)) == (
        2,
        "about 40 s left",
        "about 20 min left",
    )
    assert Turn(6, 6, 0.0, 0, True).left(99.0) == ""
    assert Turn(3, 6, 0.0, 2, True).left(10.0) == "about 30 s left"
    assert Turn(1, 6, 0.0, 0, False).left(10.0) == ""


def row(scorer: str, exact: float, seconds: float) -> ComparisonRow:
    values = {
        "planted.exact": Estimate(exact, exact - 0.1, exact + 0.1, 10),
        "cost.s": Estimate(seconds, nan, nan, 1),
    }
    headlines = ("planted.exact", "cost.s")
    return ComparisonRow({"scorer": scorer}, "finished", values, {}, 0, 1.0, headlines=headlines)


def test_a_parent_has_the_values_of_the_job_that_is_best_in_the_main_metric() -> None:
    rows = [row("a", 0.5, 9.0), row("b|c", 0.7, 3.0), row("d", nan, 1.0)]
    assert {metric.key: metric.value for metric in metrics_of_best(rows)} == {
        "planted/exact": 0.7,
        "cost/s": 3.0,
    }
    lines = comparison_note(rows).splitlines()
    assert lines[0] == "| scorer | planted.exact | cost.s |"
    assert lines[3] == "| `b/c` | **0.700 (0.60 to 0.80)** | 3.000 |"
    assert lines[4] == "| `d` | – | 1.000 |"
    assert best_row(rows, "cost.s", higher_is_better=False) is rows[2]
    assert metrics_of_best([ComparisonRow({}, "failed: x", {}, {}, None, None)]) == []


def test_the_view_shows_the_jobs_of_one_parent_alone() -> None:
    state = json.loads(view_of_jobs("abc", "blur", ["scorer"], [f"planted/{n}" for n in range(9)]))
    assert state["searchFilter"] == "tags.`mlflow.parentRunId` = 'abc'"
    kinds = [chart["type"] for chart in state["compareRunCharts"]]
    assert kinds == ["SCATTER"] * 6 + ["PARALLEL"]
    assert state["compareRunCharts"][0]["xaxis"] == {"key": "blur", "type": "PARAM"}
    assert len(json.dumps(state)) < 5000  # what MLflow takes as the tag of an experiment
