from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnr_bench.data.explanation import RefinementRecord
from dnr_bench.infra.errors import UsageError
from dnr_bench.methods.describe_and_dissect.refinement import (
    LAST_ITERATION,
    NO_NEW_CONCEPT,
    NO_PROGRESS,
    IterativeRefinement,
    highest_images,
    progress,
)

SCORES = st.lists(st.floats(-100, 100).map(lambda score: round(score, 3)), min_size=1, max_size=8)


def test_progress_is_the_rise_of_the_top_mean_in_spreads() -> None:
    scores = np.array([1.0, 2.0, 3.0, 7.0])
    is_new = np.array([False, False, False, True])
    assert progress(scores, is_new, 3) == pytest.approx((4.0 - 2.0) / np.std(scores))
    assert progress(scores, is_new, 1) == pytest.approx((7.0 - 3.0) / np.std(scores))
    assert progress(scores[::-1], is_new, 1) == 0  # the new concept is the worst


def test_fewer_old_concepts_than_top_m_are_no_disadvantage() -> None:
    scores = np.array([10.0, 11.0, 0.0])
    assert progress(scores, np.array([False, True, True]), 3) == pytest.approx(1 / np.std(scores))


def test_concepts_without_a_score_do_not_count() -> None:
    scores = np.array([1.0, np.nan, 3.0])
    assert progress(scores, np.array([False, False, True]), 1) == pytest.approx(2.0)
    assert progress(scores, np.array([False, True, False]), 2) == 0
    assert progress(np.array([np.nan, 3.0]), np.array([False, True]), 1) == 0
    assert progress(np.array([np.nan, np.nan]), np.array([False, True]), 1) == 0


@given(SCORES, SCORES, st.integers(1, 4), st.floats(0.5, 20), st.floats(-50, 50), st.randoms())
def test_progress_has_no_unit_and_no_order(
    old: list[float], new: list[float], m: int, scale: float, shift: float, random
) -> None:
    scores, is_new = np.array(old + new), np.array([False] * len(old) + [True] * len(new))
    found = progress(scores, is_new, m)
    assert progress(scores * scale + shift, is_new, m) == pytest.approx(found, abs=1e-4)
    order = list(range(len(scores)))
    random.shuffle(order)
    assert progress(scores[order], is_new[order], m) == pytest.approx(found, abs=1e-9)
    assert found >= -1e-9


@given(SCORES, st.integers(1, 4))
def test_what_was_there_before_is_no_progress(old: list[float], m: int) -> None:
    """A list that repeats its best concepts, or a neuron whose scores are all the same, brings nothing."""
    repeated = sorted(old, reverse=True)[:1]
    scores = np.array(old + repeated)
    assert progress(scores, np.arange(len(scores)) >= len(old), 1) == 0
    same = np.full(len(old) + 2, old[0])
    assert progress(same, np.arange(len(same)) >= len(old), m) == 0


@given(st.lists(SCORES, min_size=1, max_size=6), st.integers(0, 2), st.floats(0, 1))
def test_every_course_ends_for_a_reason_that_is_true(
    steps: list[list[float]], patience: int, threshold: float
) -> None:
    refinement = IterativeRefinement(
        max_iterations=len(steps), threshold=threshold, patience=patience, top_m=2, as_printed=False
    )
    scores, course = [0.0], RefinementRecord()
    for new in steps:
        earlier = np.array(scores)
        scores = scores + new
        course = refinement.after(course, np.array(scores), earlier)
        if course.stopped:
            break
    assert course.stopped in (NO_PROGRESS, LAST_ITERATION)
    tail = course.progress[-patience - 1 :]
    stalled = len(tail) == patience + 1 and all(value < threshold for value in tail)
    assert stalled == (course.stopped == NO_PROGRESS)


def course_of(refinement: Refinement, steps: list[list[float]]) -> Course:
    """The course of a neuron that has concepts of score 0 and 1 and gets these scores, one list a step."""
    scores, course = [0.0, 1.0], RefinementRecord()
    for new in steps:
        assert course.stopped is None
        earlier = np.array(scores)
        scores = scores + new
        course = refinement.after(course, np.array(scores), earlier)
    return course


def test_refinement_stops_for_a_reason() -> None:
    refinement = IterativeRefinement(max_iterations=3, threshold=0.1, patience=0, top_m=1, as_printed=False)
    assert course_of(refinement, [[2.0], []]).stopped == NO_NEW_CONCEPT
    assert course_of(refinement, [[2.0], [0.5]]).stopped == NO_PROGRESS
    assert course_of(refinement, [[2.0], [3.0]]).stopped is None
    done = course_of(refinement, [[2.0], [3.0], [4.0]])
    assert done.stopped == LAST_ITERATION
    assert len(done.progress) == 3
    assert all(value >= 0.1 for value in done.progress)


def test_as_printed_the_means_of_two_rankings_are_compared() -> None:
    printed = IterativeRefinement(max_iterations=9, threshold=0.5, patience=0, top_m=2, as_printed=True)
    course = RefinementRecord()
    # the old concepts scored 2 and 4 in their own ranking, and score 1 and 2 in the new one
    course = printed.after(course, np.array([1.0, 2.0, 6.0]), np.array([2.0, 4.0]))
    assert course.progress == (pytest.approx((6 + 2) / 2 - (4 + 2) / 2),)
    assert course.stopped is None
    course = printed.after(course, np.array([1.0, 2.0, 6.0, 2.5]), np.array([1.0, 2.0, 6.0]))
    assert course.progress[1] == pytest.approx((6 + 2.5) / 2 - (6 + 2) / 2)
    assert course.stopped == NO_PROGRESS


def test_patience_tolerates_steps_without_progress_in_a_row() -> None:
    patient = IterativeRefinement(max_iterations=9, threshold=0.1, patience=1, top_m=1, as_printed=False)
    assert course_of(patient, [[0.5]]).stopped is None
    assert course_of(patient, [[0.5], [3.0], [0.5]]).stopped is None
    assert course_of(patient, [[0.5], [3.0], [0.5], [0.5]]).stopped == NO_PROGRESS


def test_a_threshold_of_zero_stops_only_at_the_end_or_without_concepts() -> None:
    refinement = IterativeRefinement(max_iterations=2, threshold=0.0, patience=0, top_m=1, as_printed=False)
    assert course_of(refinement, [[0.5], [0.2]]).stopped == LAST_ITERATION


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((-1, 0.1, 0, 3), "max_iterations=-1"),
        ((1, -0.1, 0, 3), "threshold=-0.1"),
        ((1, 0.1, 0, 0), "top_m=0"),
    ],
)
def test_wrong_settings_are_named(values: tuple[int, float, int, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        IterativeRefinement(*values, as_printed=False)


def test_highest_images_are_taken_over_all_concepts() -> None:
    activations = [np.array([1.0, 5.0]), np.array([5.0, 0.0, 7.0])]
    assert highest_images(activations, 3) == [(1, 2), (0, 1), (1, 0)]
    assert len(highest_images(activations, 99)) == 5
    assert highest_images([], 3) == []
