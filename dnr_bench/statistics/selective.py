"""Abstention as a curve: the error of what is kept when the least confident are left out. Pure.

El-Yaniv and Wiener 2010; the area is the AURC of Geifman, Uziel and El-Yaniv 2019.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def errors_by_coverage(
    errors: Float[np.ndarray, " items"], confidence: Float[np.ndarray, " items"]
) -> Float[np.ndarray, " items"]:
    """The mean error of the 1, 2 ... n most confident items; of equally confident ones the expected value."""
    return np.asarray(np.cumsum(_in_order(errors, confidence)) / np.arange(1, len(errors) + 1))


def area(errors: Float[np.ndarray, " items"], confidence: Float[np.ndarray, " items"]) -> float:
    """The mean of the curve over all coverages; NaN without items. A random order gives the mean error."""
    return float(errors_by_coverage(errors, confidence).mean()) if len(errors) else float("nan")


def kept(confidence: Float[np.ndarray, " items"], coverage: float) -> Float[np.ndarray, " items"]:
    """How far each item is among the share `coverage` of the most confident: 1, 0, or part of a tie."""
    n = round(coverage * len(confidence))
    ordered = np.sort(confidence)[::-1]
    if n == 0:
        return np.zeros(len(confidence))
    last = ordered[n - 1]
    above, tied = confidence > last, confidence == last
    return np.asarray(above + tied * (n - above.sum()) / tied.sum())


def _in_order(
    errors: Float[np.ndarray, " items"], confidence: Float[np.ndarray, " items"]
) -> Float[np.ndarray, " items"]:
    """The errors, most confident first, each of a tie the mean of the tie."""
    _, tie = np.unique(-confidence, return_inverse=True)
    means = np.bincount(tie, errors) / np.bincount(tie)
    return np.asarray(means[np.sort(tie)])
