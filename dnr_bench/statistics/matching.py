"""Attribute sets matched with each other, and ranks within a pool. Pure."""

from __future__ import annotations

from collections.abc import Sequence, Set

import numpy as np
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment


def attribute_scores(named: Sequence[Set[str]], true: Sequence[Set[str]]) -> tuple[float, float, float]:
    """Precision, recall and F1 of the attributes that a label names; 0 where it names none.

    Both are alternatives ("red circle or blue star" has two); each of a label's is held against one of the
    truth's, paired so that most attributes are right. "red blue" is half right for "red or blue".
    """
    overlap = np.asarray([[len(a & b) for b in true] for a in named]).reshape(len(named), len(true))
    right = int(overlap[linear_sum_assignment(overlap, maximize=True)].sum())
    if not right:
        return 0.0, 0.0, 0.0
    precision, recall = right / sum(map(len, named)), right / sum(map(len, true))
    return precision, recall, 2 * precision * recall / (precision + recall)


def mid_rank(scores: Float[np.ndarray, " pool"], index: int) -> float:
    """The rank of one entry, 1 for the highest, ties sharing their mean; unscored entries come last."""
    filled = np.where(np.isnan(scores), -np.inf, scores)
    above = int(np.sum(filled > filled[index]))
    tied = int(np.sum(filled == filled[index])) - 1
    return 1 + above + tied / 2
