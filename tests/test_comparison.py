from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dnr_bench.outputs.plots import draw, on_frontier
from dnr_bench.results.comparison import Job, compare, comparison_plots
from tests.helpers.results import metric, neuron, result


def job(seed: int, values: list[float], labels: list[str], scorer: str = "mean") -> Job:
    neurons = [
        neuron(i, [label], {"planted.exact": float(value)})
        for i, (value, label) in enumerate(zip(values, labels, strict=True))
    ]
    found = result(neurons, {"planted.exact": metric()})
    return Job({"scorer": scorer, "seed": str(seed)}, found, None)


def test_jobs_that_differ_only_in_their_seed_are_pooled() -> None:
    jobs = [
        job(seed, [1, 0, 1, 1], list("abcd"), scorer) for scorer in ("mean", "semantic") for seed in (0, 1)
    ]
    first, second = compare(jobs)
    assert first.overrides == {"scorer": "mean", "seed": "0,1"}
    assert second.overrides["scorer"] == "semantic"
    assert (first.metrics["planted.exact"].mean, first.metrics["planted.exact"].n) == (0.75, 8)
    assert first.chance == {"planted.exact": 0.25}
    assert (first.computed, first.seconds) == (6, 4.0)


def test_seeds_of_one_neuron_are_no_independent_evidence() -> None:
    values = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0]
    one = compare([job(0, values, [f"a{i}" for i in range(6)])])[0].metrics["planted.exact"]
    three = compare([job(s, values, [f"{s}{i}" for i in range(6)]) for s in range(3)])[0]
    pooled = three.metrics["planted.exact"]
    assert pooled.n == 3 * one.n
    assert (pooled.low, pooled.high) == pytest.approx((one.low, one.high))


def test_a_failed_seed_does_not_hide_the_others() -> None:
    (row,) = compare([job(0, [1.0], ["a"]), Job({"scorer": "mean", "seed": "1"}, None, "no disk\nmore")])
    assert row.status == "1 of 2 finished: no disk"
    assert row.metrics["planted.exact"].mean == 1.0
    (gone,) = compare([Job({"seed": "1"}, None, "no disk")])
    assert gone.status == "failed: no disk"
    assert gone.seconds is None


def test_rows_are_compared_with_the_first_one_neuron_by_neuron() -> None:
    first = [job(seed, [1, 0, 1, 0], list("abcd")) for seed in (0, 1)]
    second = [job(seed, [1, 1, 1, 0], list("axcd"), "semantic") for seed in (0, 1)]
    rows = compare([*first, *second])
    assert rows[0].differences == {}
    found = rows[1].differences
    assert (found["planted.exact"].mean, found["planted.exact"].n) == (0.25, 8)
    assert found["label_change"].mean == 0.25
    assert rows[1].flat()["planted.exact.difference"] == 0.25
    half = compare([first[0], *second])[1].differences["planted.exact"]
    assert half.n == 4  # the other seed has no partner


def with_blur(scorer: str, blur: str) -> Job:
    made = job(0, [1.0, 0.0], ["a", scorer], scorer)
    return Job({"scorer": scorer, "blur": blur}, made.result, None)


def test_plots_run_over_numbers_where_there_are_some() -> None:
    rows = compare([with_blur(scorer, blur) for scorer in ("mean", "semantic") for blur in ("10", "2")])
    quality, change = comparison_plots(rows)
    assert (quality.x, quality.y, quality.series) == ("blur", "planted.exact", ("scorer",))
    axes = draw([row.flat() for row in rows], quality).axes[0]
    assert [line.get_xdata().tolist() for line in axes.lines] == [[2.0, 10.0], [2.0, 10.0]]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["mean", "semantic"]
    assert len(axes.collections) == 2  # an interval for each
    axes = draw([row.flat() for row in rows], change).axes[0]
    drawn = [np.ravel(line.get_ydata()).tolist() for line in axes.lines]
    assert [0.0] in drawn  # the other job with the first one's scorer; the first one has no change
    assert [0.5, 0.5] in drawn


def test_what_has_no_numbers_stands_side_by_side_with_its_intervals() -> None:
    rows = compare([with_blur("mean", "0"), with_blur("semantic", "0")])
    quality, _ = comparison_plots(rows)
    assert (quality.x, quality.series) == ("scorer", ())
    axes = draw([row.flat() for row in rows], quality).axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["mean", "semantic"]
    assert len(axes.containers) == 1  # points with error bars
    assert axes.get_legend() is None
    assert comparison_plots(compare([with_blur("mean", "0")])) == []
    assert comparison_plots(compare([Job({"scorer": s}, None, "no disk") for s in "ab"])) == []


def test_a_job_that_never_ran_spoils_no_plot() -> None:
    gone = Job({"job": "0"}, None, "interrupted")
    quality, _ = comparison_plots(compare([gone, with_blur("mean", "0"), with_blur("mean", "2")]))
    assert (quality.x, quality.series) == ("blur", ())


def test_each_combination_of_what_else_varies_is_a_line() -> None:
    jobs = []
    for captioner in ("dataset", "blip"):
        for of_scorer in (with_blur(scorer, blur) for scorer in ("mean", "semantic") for blur in ("0", "2")):
            jobs.append(Job({**of_scorer.overrides, "captioner": captioner}, of_scorer.result, None))
    rows = compare(jobs)
    axes = draw([row.flat() for row in rows], comparison_plots(rows)[0]).axes[0]
    assert [len(line.get_xdata()) for line in axes.lines] == [2, 2, 2, 2]


def test_a_metric_that_one_seed_lacks_is_there_for_the_others() -> None:
    first, second = job(0, [1.0], ["a"]), job(1, [1.0], ["b"])
    name = "refinement.fresh_wins"
    of_neuron = neuron(0, ["a"], {"planted.exact": 1.0, name: 1.0})
    found = result([of_neuron], {"planted.exact": metric(), name: metric(chance=0.5)})
    (row,) = compare([replace(first, result=found), second])
    assert row.metrics["refinement.fresh_wins"].n == 1


@pytest.mark.parametrize(
    ("before", "after", "together"),
    [
        (["red", "red"], ["b", "c"], True),  # the images of one baseline label count for both
        (["b", "c"], ["red", "red"], True),
        (["b", "red"], ["red", "c"], False),  # drawn in other runs, scored in other company
        (["a", "b"], ["c", "d"], False),
        ([None, None], [None, None], False),  # neurons without labels share nothing
    ],
)
def test_pairs_that_share_a_label_on_one_side_are_one_cluster(
    before: list[str | None], after: list[str | None], together: bool
) -> None:
    def labeled(one: Job, labels: list[str | None]) -> Job:
        pairs = zip(one.result.neurons, labels, strict=True)
        neurons = tuple(replace(n, labels=(label,) if label else ()) for n, label in pairs)
        return replace(one, result=replace(one.result, neurons=neurons))

    jobs = [
        labeled(job(0, [0, 0], list("ab")), before),
        labeled(job(0, [1, 0], list("ab"), "semantic"), after),
    ]
    found = compare(jobs)[1].differences["planted.exact"]
    assert np.isnan(found.low) == together  # a single cluster says nothing of the spread


def test_quality_is_drawn_over_the_cost_where_it_was_measured() -> None:
    jobs = []
    for scorer, values, seconds in (
        ("mean", [1, 0, 0], 4.0),
        ("semantic", [1, 1, 0], 2.0),
        ("first", [0] * 3, 1.0),
    ):
        made = job(0, [float(v) for v in values], list("abc"), scorer)
        assert made.result is not None
        cost = replace(
            metric(), mean=seconds, low=np.nan, high=np.nan, unit="seconds", higher_is_better=False,
            headline=False, item_kind="run", items={"run": seconds},
        )  # fmt: skip
        found = replace(made.result, metrics={**made.result.metrics, "cost.seconds_per_neuron": cost})
        jobs.append(replace(made, result=found))
    rows = compare(jobs)
    plot = comparison_plots(rows)[-1]
    assert (plot.kind, plot.x, plot.y) == ("frontier", "cost.seconds_per_neuron", "planted.exact")
    assert plot.name == "planted.exact over cost.seconds_per_neuron"
    axes = draw([row.flat() for row in rows], plot).axes[0]
    assert {text.get_text() for text in axes.texts} == {"mean", "semantic", "first"}
    (front,) = [line for line in axes.lines if line.get_drawstyle() == "steps-post"]
    assert front.get_xdata().tolist() == [1.0, 2.0]  # the one that costs more and gives less is behind


def test_the_frontier_is_what_nothing_cheaper_reaches() -> None:
    costs, values = np.array([3.0, 1, 1, 2, 4, 0]), np.array([0.9, 0.2, 0.4, 0.3, 0.8, np.nan])
    assert on_frontier(costs, values) == [2, 0]
    assert on_frontier(np.empty(0), np.empty(0)) == []
