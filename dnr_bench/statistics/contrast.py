"""How well texts tell what excites a neuron from what does not. Pure."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

#: So many of the highest activations say how high a neuron goes: one alone may be an outlier.
_HIGHEST = 3


def excess(
    activations: Float[np.ndarray, " exemplars"], others: Float[np.ndarray, " others"]
) -> Float[np.ndarray, " images"]:
    """How far each image is above half of the neuron's height; exemplars first, then the others.

    Half height lies halfway between the mean of the others and the mean of the three highest exemplars: for a
    neuron that fires alike on many images all of them count alike, and where few stand out these count alone.
    """
    base = float(others.mean())
    top = float(np.sort(activations)[-_HIGHEST:].mean())
    values = np.concatenate([activations, others])
    above: np.ndarray = np.maximum(values - (base + top) / 2, 0)
    return above


def correlations(
    presence: Float[np.ndarray, "texts images"], values: Float[np.ndarray, " images"]
) -> Float[np.ndarray, " texts"]:
    """Pearson's r of each row with the values; 0 where a row or the values are constant."""
    rows = presence - presence.mean(axis=1, keepdims=True)
    centered = values - values.mean()
    scale = np.linalg.norm(rows, axis=1) * np.linalg.norm(centered)
    found: np.ndarray = np.divide(rows @ centered, scale, out=np.zeros(len(rows)), where=scale > 1e-9)
    return found


def central(
    scores: Float[np.ndarray, " texts"], cosines: Float[np.ndarray, "texts texts"], temperature: float
) -> int:
    """The text that is nearest to all others, each counted by how likely its score makes it.

    So related wordings count together, and of "tern", "arctic tern" and "tern in flight" the one wins that
    says most of what the others say (minimum Bayes risk).

    Args:
        scores: of texts that may be meant.
        cosines: how alike they are.
        temperature: in standard deviations of the scores; 0 takes the best one.
    """
    spread = float(scores.std()) * temperature
    if spread <= 1e-9:
        return int(np.argmax(scores))
    likely = np.exp((scores - scores.max()) / spread)
    return int(np.argmax(cosines @ (likely / likely.sum())))
