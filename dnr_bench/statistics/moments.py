"""Linear models of many columns from sums of products, for data that does not fit in memory. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Float


class Moments:
    """Sums of products of concepts and units over images that come in chunks.

    Sums are taken around the first image, so that no precision is lost to means.
    """

    def __init__(self) -> None:
        self.n = 0

    def add(
        self, concepts: Float[np.ndarray, "images concepts"], units: Float[np.ndarray, "images units"]
    ) -> None:
        """Look at some more images."""
        x, y = np.asarray(concepts, np.float64), np.asarray(units, np.float64)
        if not len(x):
            return
        if not self.n:
            self._shift = x[0].copy(), y[0].copy()
            self._x, self._y = np.zeros(x.shape[1]), np.zeros(y.shape[1])
            self._xx, self._xy = np.zeros((x.shape[1],) * 2), np.zeros((x.shape[1], y.shape[1]))
            self._yy = np.zeros(y.shape[1])
        x, y = x - self._shift[0], y - self._shift[1]
        self.n += len(x)
        self._x += x.sum(axis=0)
        self._y += y.sum(axis=0)
        self._xx += x.T @ x
        self._xy += x.T @ y
        self._yy += (y**2).sum(axis=0)

    @cached_property
    def covariance(self) -> Float[np.ndarray, "concepts concepts"]:
        """Of the concepts; the sums are to be complete."""
        found: np.ndarray = self._xx / self.n - np.outer(self._x, self._x) / self.n**2
        return found

    @cached_property
    def with_units(self) -> Float[np.ndarray, "concepts units"]:
        """The covariance of each concept and each unit."""
        found: np.ndarray = self._xy / self.n - np.outer(self._x, self._y) / self.n**2
        return found

    @cached_property
    def concept_deviations(self) -> Float[np.ndarray, " concepts"]:
        """Standard deviations."""
        return np.asarray(np.sqrt(np.maximum(np.diagonal(self.covariance), 0)))

    @cached_property
    def unit_deviations(self) -> Float[np.ndarray, " units"]:
        """Standard deviations."""
        return np.asarray(np.sqrt(np.maximum(self._yy / self.n - (self._y / self.n) ** 2, 0)))

    @cached_property
    def correlations(self) -> Float[np.ndarray, "concepts concepts"]:
        """Of the standardized concepts; 0 where one is constant."""
        return _divided(self.covariance, np.outer(self.concept_deviations, self.concept_deviations))

    @cached_property
    def unit_correlations(self) -> Float[np.ndarray, "concepts units"]:
        """Of standardized concepts and units; 0 where one is constant."""
        return _divided(self.with_units, np.outer(self.concept_deviations, self.unit_deviations))


def elastic_net(moments: Moments, penalty: float, lasso_share: float) -> Float[np.ndarray, "concepts units"]:
    """The weights of the elastic net of each unit on all concepts, both standardized.

    scikit-learn minimizes it on as many rows as there are concepts: their products are those of the images,
    which is all that the minimum depends on.
    """
    from sklearn.linear_model import ElasticNet

    values, vectors = np.linalg.eigh(moments.correlations)
    kept = values > max(values.max(), 0) * 1e-10
    roots = np.sqrt(values[kept])
    n = len(roots)
    if not n:  # every concept is constant
        return np.zeros(moments.unit_correlations.shape)
    rows = np.sqrt(n) * roots[:, None] * vectors[:, kept].T
    targets = np.sqrt(n) * (vectors[:, kept].T @ moments.unit_correlations) / roots[:, None]
    model = ElasticNet(alpha=penalty, l1_ratio=lasso_share, fit_intercept=False, max_iter=10_000)
    found: np.ndarray = model.fit(rows, targets).coef_
    return np.atleast_2d(found).T


def fitted(moments: Moments, places: Sequence[int], unit: int) -> Float[np.ndarray, " places"]:
    """The least-squares weights of a unit on some concepts, all standardized."""
    among = moments.correlations[np.ix_(places, places)]
    found: np.ndarray = np.linalg.lstsq(among, moments.unit_correlations[places, unit], rcond=1e-10)[0]
    return found


def moment_correlation(
    moments: Moments, scales: Moments, places: Sequence[int], weights: Float[np.ndarray, " places"], unit: int
) -> float:
    """Pearson's r over images of a unit and a weighted sum of concepts; 0 where one is constant.

    scales: of the images whose standard deviations the weights belong to.
    """
    plain = weights / scales.concept_deviations[places]
    variance = float(plain @ moments.covariance[np.ix_(places, places)] @ plain)
    scale = np.sqrt(max(variance, 0)) * moments.unit_deviations[unit]
    return float(plain @ moments.with_units[places, unit] / scale) if scale > 1e-12 else 0.0


def _divided(values: Float[np.ndarray, "a b"], scale: Float[np.ndarray, "a b"]) -> Float[np.ndarray, "a b"]:
    found: np.ndarray = np.divide(values, scale, out=np.zeros_like(values), where=scale > 1e-12)
    return found
