"""What runs of another size take, against numbers worked out by hand."""

from __future__ import annotations

import pytest

from dnr_bench.statistics.costs import Line, fitted, grown


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
