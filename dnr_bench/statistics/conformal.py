"""Sets of answers that hold the right one in a stated share of cases (conformal prediction). Pure.

Votes for answers are turned into sets after Romano, Sesia and Candes 2020 ("adaptive prediction sets",
without their randomization): answers join in the order of their votes until these reach a threshold, which
cases with known answers give (split conformal).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, inf

#: Votes that differ by less are equal.
_TINY = 1e-9


def prediction_set(votes: Mapping[str, float], threshold: float) -> list[str]:
    """The answers, most voted first, until their votes together reach the threshold; ties in their order."""
    found: list[str] = []
    total = 0.0
    for answer in sorted(votes, key=lambda answer: -votes[answer]):
        if found and total >= threshold - _TINY:
            break
        found.append(answer)
        total += votes[answer]
    return found


def needed(votes: Mapping[str, float], right: str) -> float:
    """The smallest threshold at which the set holds the right answer: the votes of all that come before it.

    0 for the most voted one; infinite where nothing voted for it. `votes` must add up to 1 at most.
    """
    if right not in votes:
        return inf
    before = prediction_set(votes, inf)
    place = before.index(right)
    # the set stops as soon as the threshold is reached, so it must lie above what comes before
    return sum(votes[answer] for answer in before[:place]) + (2 * _TINY if place else 0.0)


def calibrated(thresholds: Sequence[float], level: float) -> float:
    """The threshold that covers new cases at the level: the ceil((n + 1) level)-th smallest of those needed.

    Infinite where so many cases are never covered.
    """
    rank = ceil((len(thresholds) + 1) * level - _TINY)
    return sorted(thresholds)[rank - 1] if 0 < rank <= len(thresholds) else inf
