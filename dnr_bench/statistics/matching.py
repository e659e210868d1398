"""Attribute sets matched with each other, and ranks within a pool. Pure."""

from __future__ import annotations

from collections.abc import Sequence, Set

import numpy as np
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment


def attribute_scores(
    named: Sequence[Set[str]], true: Sequence[Set[str]], weights: Sequence[float] | None = None
) -> tuple[float, float, float]:
    """Precision, recall and F1 of the attributes that a label names; 0 where it names none.

    Both are alternatives ("red circle or blue star" has two); each of a label's is held against one of the
    truth's, paired so that most attributes are right. "red blue" is half right for "red or blue".

    weights: how much each alternative of the truth counts in recall, 1 by default; a right attribute is right
    whatever it weighs, so that precision does not depend on them.
    """
    weights = [1.0] * len(true) if weights is None else weights
    if len(named) == len(true) == 1:
        rows = columns = np.zeros(1, int)
        overlap = np.asarray([[len(named[0] & true[0])]])
    else:
        overlap = np.asarray([[len(a & b) for b in true] for a in named]).reshape(len(named), len(true))
        rows, columns = linear_sum_assignment(overlap * np.asarray(weights), maximize=True)
    right = overlap[rows, columns]
    if not right.sum():
        return 0.0, 0.0, 0.0
    found = float(right @ np.asarray(weights)[columns])
    recall = found / sum(w * len(b) for w, b in zip(weights, true, strict=True))
    precision = int(right.sum()) / sum(map(len, named))
    return precision, recall, 2 * precision * recall / (precision + recall)


def mid_rank(scores: Float[np.ndarray, " pool"], index: int) -> float:
    """The rank of one entry, 1 for the highest, ties sharing their mean; unscored entries come last."""
    filled = np.where(np.isnan(scores), -np.inf, scores)
    above = int(np.sum(filled > filled[index]))
    tied = int(np.sum(filled == filled[index])) - 1
    return 1 + above + tied / 2
