"""How well a label's presence in images and a neuron's activation agree: pure, for all pairs at once.

Every function gives a table [units, concepts]. A concept's presence is taken as the prediction of a neuron's
activity, so that recall is the share of a neuron's active images that its label accounts for, and precision
the share of the images that show the label in which the neuron is active (Oikarinen et al. 2025, "Evaluating
Neuron Explanations", section 3). NaN where a pair has nothing to compare. A concept that no image shows has
average precision 0, and F1 and IoU 0 where the unit is active at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np
import scipy
from jaxtyping import Bool, Float

#: A table from activations, from which images are active, and from which images show a concept.
Metric = Callable[
    [
        Float[np.ndarray, "images units"],
        Bool[np.ndarray, "images units"],
        Bool[np.ndarray, "images concepts"],
    ],
    Float[np.ndarray, "units concepts"],
]


def is_high(values: Float[np.ndarray, "images columns"]) -> Bool[np.ndarray, "images columns"]:
    """Which values of each column belong to the higher of its two classes (Otsu 1979, on 256 levels)."""
    low, span = values.min(axis=0), np.ptp(values, axis=0)
    levels = np.round(255 * (values - low) / np.where(span > 0, span, 1)).astype(np.uint8)
    above = [
        cv2.threshold(np.ascontiguousarray(column), 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)[1].ravel()
        for column in levels.T
    ]
    return np.stack(above, axis=1).astype(bool)


def auc(
    values: Float[np.ndarray, "images units"], present: Bool[np.ndarray, "images concepts"]
) -> Float[np.ndarray, "units concepts"]:
    """The share of pairs of an image with and one without the concept in which the first activates more.

    Ties count half: the area under the ROC curve (AUC of CoSy, Kopf et al. 2024).
    """
    n = present.sum(axis=0)
    ranks = scipy.stats.rankdata(values, axis=0).T @ present.astype(float)
    return _ratio(ranks - n * (n + 1) / 2, np.broadcast_to(n * (len(present) - n), ranks.shape))


def cosy_auc(
    drawn: Float[np.ndarray, "drawn units"], control: Float[np.ndarray, "images units"]
) -> Float[np.ndarray, " units"]:
    """The share of pairs in which the drawn image activates a unit more than the control image, ties half."""
    below, upto = (
        np.stack([np.searchsorted(np.sort(c), d, side) for d, c in zip(drawn.T, control.T, strict=True)])
        for side in ("left", "right")
    )
    return np.asarray((below + upto).mean(axis=1) / 2 / len(control))


def cosy_mad(
    drawn: Float[np.ndarray, "drawn units"], control: Float[np.ndarray, "images units"]
) -> Float[np.ndarray, " units"]:
    """By how many standard deviations of the control images the drawn ones activate a unit more."""
    spread = control.std(axis=0)
    gain = drawn.mean(axis=0) - control.mean(axis=0)
    found: np.ndarray = np.divide(gain, spread, out=np.full(len(gain), np.nan), where=spread > 1e-12)
    return found


def mean_difference(
    values: Float[np.ndarray, "images units"], present: Bool[np.ndarray, "images concepts"]
) -> Float[np.ndarray, "units concepts"]:
    """By how many standard deviations of the other images those that show the concept activate more (MAD)."""
    shown, absent = present.astype(float), (~present).astype(float)
    n_absent = np.broadcast_to(absent.sum(axis=0), (values.shape[1], present.shape[1]))
    centered = values.astype(float) - values.mean(axis=0)
    with_it = _ratio(centered.T @ shown, np.broadcast_to(shown.sum(axis=0), n_absent.shape))
    without = _ratio(centered.T @ absent, n_absent)
    variance = _ratio((centered**2).T @ absent, n_absent) - without**2
    rounding = 1e-12 * (centered**2).mean(axis=0)[:, None]  # what is left of images that are all equal
    return _ratio(with_it - without, np.sqrt(np.where(variance > rounding, variance, 0)))


def average_precision(
    values: Float[np.ndarray, "images units"], present: Bool[np.ndarray, "images concepts"]
) -> Float[np.ndarray, "units concepts"]:
    """The area under the precision-recall curve of activation as a detector of the concept (AUPRC).

    Its chance level is the share of images that show the concept: a concept that all of them show gets 1.
    """
    n = present.sum(axis=0)
    rows = []
    for unit in values.T:
        order = np.argsort(-unit, kind="stable")
        ends = np.flatnonzero(np.append(np.diff(unit[order]) != 0, True))  # ties come in one step
        found = np.cumsum(present[order], axis=0)[ends]
        gained = np.diff(found, axis=0, prepend=0)
        rows.append((gained * found / (ends + 1)[:, None]).sum(axis=0))
    return np.asarray(np.stack(rows) / np.maximum(n, 1))


def correlation(
    values: Float[np.ndarray, "images units"], presence: Float[np.ndarray, "images concepts"]
) -> Float[np.ndarray, "units concepts"]:
    """Pearson's r of activation and presence, which may be graded."""
    a, b = (x.astype(float) - x.mean(axis=0, dtype=float) for x in (values, presence))
    return _ratio(a.T @ b, np.sqrt(np.outer((a**2).sum(axis=0), (b**2).sum(axis=0))))


def recall(
    active: Bool[np.ndarray, "images units"], present: Bool[np.ndarray, "images concepts"]
) -> Float[np.ndarray, "units concepts"]:
    """The share of the active images that show the concept."""
    both, n_active, _ = _counts(active, present)
    return _ratio(both, n_active)


def precision(
    active: Bool[np.ndarray, "images units"], present: Bool[np.ndarray, "images concepts"]
) -> Float[np.ndarray, "units concepts"]:
    """The share of the images that show the concept that are active."""
    both, _, n_present = _counts(active, present)
    return _ratio(both, n_present)


def f1(
    active: Bool[np.ndarray, "images units"], present: Bool[np.ndarray, "images concepts"]
) -> Float[np.ndarray, "units concepts"]:
    """The harmonic mean of recall and precision."""
    both, n_active, n_present = _counts(active, present)
    return _ratio(2 * both, n_active + n_present)


def iou(
    active: Bool[np.ndarray, "images units"], present: Bool[np.ndarray, "images concepts"]
) -> Float[np.ndarray, "units concepts"]:
    """Images that are active and show the concept over those that do either."""
    both, n_active, n_present = _counts(active, present)
    return _ratio(both, n_active + n_present - both)


#: Every metric that says how well a binary presence and a neuron agree.
METRICS: Mapping[str, Metric] = {
    "auc": lambda values, _, present: auc(values, present),
    "mad": lambda values, _, present: mean_difference(values, present),
    "correlation": lambda values, _, present: correlation(values, present.astype(float)),
    "auprc": lambda values, _, present: average_precision(values, present),
    "recall": lambda _, active, present: recall(active, present),
    "precision": lambda _, active, present: precision(active, present),
    "f1": lambda _, active, present: f1(active, present),
    "iou": lambda _, active, present: iou(active, present),
}


def with_labels_missing(present: Bool[np.ndarray, " images"], rng: np.random.Generator) -> np.ndarray:
    """The presence with half of its images taken away at random (missing-label test)."""
    shown = np.flatnonzero(present)
    result = present.copy()
    result[rng.choice(shown, len(shown) // 2, replace=False)] = False
    return result


def with_labels_added(present: Bool[np.ndarray, " images"], rng: np.random.Generator) -> np.ndarray:
    """The presence with as many other images, chosen at random, added to its own (extra-label test)."""
    absent = np.flatnonzero(~present)
    result = present.copy()
    result[rng.choice(absent, min(int(present.sum()), len(absent)), replace=False)] = True
    return result


def _counts(active: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    both = active.T.astype(float) @ present.astype(float)
    n_active = np.broadcast_to(active.sum(axis=0)[:, None], both.shape)
    return both, n_active, np.broadcast_to(present.sum(axis=0), both.shape)


def _ratio(over: np.ndarray, under: np.ndarray) -> np.ndarray:
    """The quotient; NaN where there is nothing to divide by."""
    quotient: np.ndarray = np.divide(over, under, out=np.full(np.shape(over), np.nan), where=under > 1e-12)
    return quotient
