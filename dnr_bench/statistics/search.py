"""Units by what a text says: SemanticLens (Dreyer et al. 2025). Pure."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def similarities(
    units: Float[np.ndarray, "units dim"],
    texts: Float[np.ndarray, "texts dim"],
    background: Float[np.ndarray, "others dim"],
) -> Float[np.ndarray, "units texts"]:
    """Cosines of units and texts, each as it differs from the mean of its kind.

    Vectors of images and of texts lie in different parts of CLIP's space: what all units share, and all
    texts, says nothing of any one of them. Of fewer than two units or `background` texts nothing is taken
    away.
    """
    found: np.ndarray = _from_mean(units, units) @ _from_mean(texts, background).T
    return found


def chance_of(
    values: Float[np.ndarray, " values"], by_chance: Float[np.ndarray, " pairs"]
) -> Float[np.ndarray, " values"]:
    """The share of pairs that go together by chance which are at least so similar; NaN without pairs."""
    if not len(by_chance):
        return np.full(len(values), np.nan)
    below = np.searchsorted(np.sort(by_chance), values, "left")
    return np.asarray(1 - below / len(by_chance))


def _from_mean(
    vectors: Float[np.ndarray, "n dim"], of: Float[np.ndarray, "others dim"]
) -> Float[np.ndarray, "n dim"]:
    moved = vectors - of.mean(axis=0) if len(of) > 1 else vectors
    lengths = np.linalg.norm(moved, axis=1, keepdims=True)
    return np.asarray(moved / np.maximum(lengths, 1e-12))
