"""Abstention curves and prediction sets, against cases computed by hand."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest

from dnr_bench.statistics.conformal import calibrated, needed, prediction_set
from dnr_bench.statistics.selective import area, errors_by_coverage, kept

VOTES = {"red": 0.5, "blue": 0.3, "star": 0.2}


def test_the_curve_is_the_mean_error_of_the_most_confident() -> None:
    errors, confidence = np.array([1.0, 0.0, 1.0, 0.0]), np.array([1.0, 4.0, 2.0, 3.0])
    assert errors_by_coverage(errors, confidence) == pytest.approx([0, 0, 1 / 3, 1 / 2])
    assert area(errors, confidence) == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4)
    assert area(errors, -confidence) == pytest.approx((1 + 1 + 2 / 3 + 1 / 2) / 4)
    assert np.isnan(area(np.empty(0), np.empty(0)))


def test_equally_confident_items_count_as_their_mean() -> None:
    errors = np.array([1.0, 0.0, 0.0, 1.0])
    assert errors_by_coverage(errors, np.zeros(4)) == pytest.approx([0.5] * 4)
    assert errors_by_coverage(errors, np.array([2.0, 2.0, 1.0, 1.0])) == pytest.approx([0.5] * 4)


def test_the_order_of_tied_items_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    errors, confidence = rng.random(50), rng.integers(5, size=50).astype(float)
    order = rng.permutation(50)
    assert area(errors, confidence) == pytest.approx(area(errors[order], confidence[order]))


def test_a_random_order_has_the_mean_error_on_average() -> None:
    rng = np.random.default_rng(1)
    errors = rng.random(40)
    assert np.mean([area(errors, rng.random(40)) for _ in range(2000)]) == pytest.approx(
        errors.mean(), abs=0.01
    )


@pytest.mark.parametrize(
    ("coverage", "expected"),
    [(0.0, [0, 0, 0, 0, 0]), (0.4, [1, 0.5, 0.5, 0, 0]), (0.6, [1, 1, 1, 0, 0]), (1.0, [1, 1, 1, 1, 1])],
)
def test_a_share_of_the_most_confident_is_kept(coverage: float, expected: list[float]) -> None:
    assert kept(np.array([9.0, 5.0, 5.0, 2.0, 1.0]), coverage) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        (0.0, ["red"]),
        (0.5, ["red"]),
        (0.51, ["red", "blue"]),
        (0.9, ["red", "blue", "star"]),
        (inf, list(VOTES)),
    ],
)
def test_sets_take_the_most_voted_answers_until_the_threshold(threshold: float, expected) -> None:
    assert prediction_set(VOTES, threshold) == expected


@pytest.mark.parametrize("right", VOTES)
def test_the_threshold_that_is_needed_is_the_smallest_that_covers(right: str) -> None:
    threshold = needed(VOTES, right)
    assert right in prediction_set(VOTES, threshold)
    if right != "red":
        assert right not in prediction_set(VOTES, threshold - 0.01)


def test_an_answer_without_votes_is_never_covered() -> None:
    assert needed(VOTES, "green") == inf
    assert calibrated([0.0, 0.5, inf, inf], 0.8) == inf


def test_calibrated_sets_cover_new_cases_at_the_level() -> None:
    rng = np.random.default_rng(2)

    def case() -> tuple[dict[str, float], str]:
        shares = rng.dirichlet(np.full(6, 0.5))
        votes = {str(i): float(share) for i, share in enumerate(shares)}
        return votes, str(rng.choice(6, p=0.7 * shares + 0.3 / 6))

    covered = []
    for _ in range(60):
        threshold = calibrated([needed(*case()) for _ in range(100)], 0.8)
        new = [case() for _ in range(100)]
        covered.append(np.mean([right in prediction_set(votes, threshold) for votes, right in new]))
    assert 0.79 < np.mean(covered) < 0.86
