"""How the activations of neurons are distributed. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

#: Bars of a histogram, and images that are looked at together: memory stays flat.
_BINS, _TOGETHER = 24, 1024


@dataclass(frozen=True)
class Histogram:
    """counts: images per bin; the bins divide the range from `low` to `high` evenly."""

    low: float
    high: float
    counts: tuple[int, ...]


def histograms(values: Float[np.ndarray, "images units"], units: Sequence[int]) -> list[Histogram]:
    """The histograms of some columns, in two passes over the rows; only finite values are counted."""
    n_units = len(units)
    lows, highs = np.full(n_units, np.inf), np.full(n_units, -np.inf)
    for rows in _chunks(values, units):
        finite = np.isfinite(rows)
        lows = np.minimum(lows, np.where(finite, rows, np.inf).min(axis=0))
        highs = np.maximum(highs, np.where(finite, rows, -np.inf).max(axis=0))
    known = np.isfinite(lows)
    lows, highs = np.where(known, lows, 0.0), np.where(known, highs, 0.0)
    widths = np.where(highs > lows, highs - lows, 1.0) / _BINS
    counts = np.zeros(n_units * _BINS, np.int64)
    for rows in _chunks(values, units):
        finite = np.isfinite(rows)
        bins = np.clip(np.where(finite, rows - lows, 0.0) // widths, 0, _BINS - 1).astype(np.int64)
        counts += np.bincount((bins + np.arange(n_units) * _BINS)[finite], minlength=len(counts))
    return [
        Histogram(float(low), float(high), tuple(map(int, of_unit)))
        for low, high, of_unit in zip(lows, highs, counts.reshape(n_units, _BINS), strict=True)
    ]


def _chunks(values: np.ndarray, units: Sequence[int]) -> Iterator[np.ndarray]:
    for start in range(0, len(values), _TOGETHER):
        yield np.asarray(values[start : start + _TOGETHER, units], np.float64)
