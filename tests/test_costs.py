"""What runs of another size take, against numbers worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from dnr_bench.data.explanation import ScoredCandidate
from dnr_bench.data.stages import StageCount
from dnr_bench.results.costs import CostModel, Size
from dnr_bench.results.schema import ProbeResult, RunResult
from dnr_bench.statistics.costs import Line, fitted, grown
from tests.helpers.results import neuron, result


def test_a_line_through_two_sizes_tells_fixed_times_from_others() -> None:
    line = fitted([10, 30], [7.0, 11.0])  # 5 + 0.2 n
    assert (line.fixed, line.per_item) == (pytest.approx(5), pytest.approx(0.2))
    assert line.seconds(100) == pytest.approx(25)
    assert line.seconds(100, workers=4) == pytest.approx(10)
    assert line.seconds(0) == 0


def test_one_size_alone_has_no_fixed_part() -> None:
    assert fitted([10, 10], [5.0, 4.0]) == Line(0.0, 0.5)
    assert fitted([], []) == Line(0.0, 0.0)


def test_no_part_is_below_zero() -> None:
    line = fitted([10, 20, 40], [1.0, 2.2, 5.0])
    assert line.fixed == 0
    assert line.per_item == pytest.approx(0.11, rel=0.2)


def test_what_neurons_share_grows_less_than_their_number() -> None:
    assert grown([["same"]] * 20).distinct(500) == pytest.approx(1)
    own = grown([[n, -n - 1] for n in range(20)])
    assert (own.b, own.distinct(100)) == (pytest.approx(1.0), pytest.approx(200, rel=0.01))
    half = grown([[n, "same"] for n in range(40)])
    assert 40 < half.distinct(80) < 90
    assert grown([]).distinct(10) == 0


def finished(n: int, images: int, seconds: Mapping[str, float]) -> RunResult:
    """A run whose neurons each have one concept of their own and one that all share."""
    found = []
    for unit in range(n):
        candidates = [ScoredCandidate(text, "captions", 1.0) for text in (f"own {unit}", "shared")]
        found.append(replace(neuron(unit, ["own"], {}), candidates=tuple(candidates)))
    stages = {name: StageCount(taken, 0, 10) for name, taken in seconds.items()}
    probe = ProbeResult(name="probe", digest="0", images=images, skipped=())
    whole = sum(seconds.values()) + 2
    return replace(
        result(found, {}), stages=stages, probe=probe, seconds=whole, config={"images_per_concept": 10}
    )


def test_stages_grow_with_what_they_look_at(tmp_path: Path) -> None:
    # 1 s per 100 images; 0.05 s per drawn image after 5 s for the model; candidates only load
    runs = [
        (finished(n, i, {"activations": i / 100, "images": 5 + 0.5 * (n + 1), "candidates": 3.0}), tmp_path)
        for n, i in ((20, 100), (60, 400))
    ]
    found = CostModel.of(runs).estimate(Size(200, 5000, 10), workers=2)
    assert found.seconds["activations"] == pytest.approx(25)
    assert found.seconds["images"] == pytest.approx(5 + 0.5 * 201 / 2, rel=0.05)
    assert found.seconds["everything else"] == pytest.approx(2)
    assert found.unclear == ("candidates",)
    assert found.disk == {}
