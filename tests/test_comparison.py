from __future__ import annotations

import pytest

from dnr_bench.comparison import Job, compare, comparison_plot
from dnr_bench.plots import draw


def job(seed: int, values: list[float], labels: list[str], scorer: str = "mean") -> Job:
    neurons = [
        {"layer": "l", "unit": i, "labels": [label], "values": {"planted.exact": value}}
        for i, (value, label) in enumerate(zip(values, labels, strict=True))
    ]
    result = {
        "metrics": {"planted.exact": {"chance": 0.25}},
        "neurons": neurons,
        "stages": {"images": {"misses": 3}},
        "seconds": 2.0,
    }
    return Job({"scorer": scorer, "seed": str(seed)}, result, None)


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


def test_the_plot_runs_over_numbers_where_there_are_some() -> None:
    def with_blur(scorer: str, blur: str) -> Job:
        found = job(0, [1.0, 0.0], ["a", "b"], scorer)
        for record in (result := found.result)["neurons"]:
            record["values"] = {"planted.attribute_f1": 0.5}
        result["metrics"] = {"planted.attribute_f1": {"chance": 0.1}}
        return Job({"scorer": scorer, "blur": blur}, result, None)

    rows = compare([with_blur(scorer, blur) for scorer in ("mean", "semantic") for blur in ("0", "2")])
    plot = comparison_plot(rows)
    assert plot is not None
    assert (plot.x, plot.y, plot.series) == ("blur", "planted.attribute_f1", "scorer")
    axes = draw([row.flat() for row in rows], plot).axes[0]
    assert [line.get_xdata().tolist() for line in axes.lines] == [[0.0, 2.0], [0.0, 2.0]]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["mean", "semantic"]
    assert comparison_plot(compare([with_blur("mean", "0")])) is None
    only = comparison_plot(compare([with_blur("mean", "0"), with_blur("semantic", "0")]))
    assert only is not None
    assert (only.x, only.series) == ("scorer", "scorer")
