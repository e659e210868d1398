"""How like a concept a neuron is over a probing set (CLIP-Dissect, Oikarinen and Weng 2023). Pure.

Each function takes `activations` [images, neurons], all units of a layer, and an iterable of chunks of the
CLIP cosines [images, concepts of the chunk], and gives [neurons, concepts]; larger is more alike. Only one
chunk of concepts is in memory at a time. The constants are those of the paper and its code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from scipy.special import logsumexp

Similarity = Literal["soft_wpmi", "wpmi", "rank_reorder", "cos", "cos_cubed"]
#: Gives the chunks anew each time, as some similarities need two passes.
Chunks = Callable[[], Iterator[Float[np.ndarray, "images concepts_of_chunk"]]]

_TINY = 1e-7
#: Of rank reorder: random orders that the error is measured against.
_ORDERS = 5


def soft_wpmi(
    activations: Float[np.ndarray, "images neurons"],
    chunks: Chunks,
    *,
    top_k: int = 100,
    a: float = 10.0,
    lam: float = 1.0,
    p_start: float = 0.998,
    p_end: float = 0.97,
) -> Float[np.ndarray, "neurons concepts"]:
    """Soft weighted pointwise mutual information (equation 5): the top images count with falling weights."""
    top = _highest(activations, top_k)
    weights = p_start - np.arange(len(top)) / len(top) * (p_start - p_end)
    return _information(top, chunks, a, lam, lambda p: np.log1p(weights[:, None] * (p - 1) + _TINY))


def wpmi(
    activations: Float[np.ndarray, "images neurons"],
    chunks: Chunks,
    *,
    top_k: int = 28,
    a: float = 2.0,
    lam: float = 0.6,
) -> Float[np.ndarray, "neurons concepts"]:
    """Weighted pointwise mutual information (equation 4) over the top images."""
    top = _highest(activations, top_k)
    return _information(top, chunks, a, lam, lambda p: np.log(p + _TINY))


def rank_reorder(
    activations: Float[np.ndarray, "images neurons"],
    chunks: Chunks,
    *,
    p: float = 3.0,
    top_fraction: float = 0.05,
    scale_p: float = 0.5,
    seed: int = 0,
) -> Float[np.ndarray, "neurons concepts"]:
    """How little changes when a neuron's top activations are put into the order of a concept's cosines."""
    n = max(int(len(activations) * top_fraction), 1)
    top = _highest(activations, n)
    values = np.take_along_axis(activations, top, axis=0).astype(np.float64)  # falling
    rising = values[::-1]
    rng = np.random.default_rng([seed, 43])
    orders = [rng.permutation(n) for _ in range(_ORDERS)]
    chance = np.mean([np.abs(rising - rising[order]) ** p for order in orders], axis=(0, 1))
    found = []
    for cosines in chunks():
        rows = np.empty((values.shape[1], cosines.shape[1]))
        for neuron in range(values.shape[1]):
            of_top = cosines[top[:, neuron]].astype(np.float64)
            places = of_top.argsort(axis=0, kind="stable").argsort(axis=0, kind="stable")
            error = (np.abs(values[:, neuron, None] - rising[places, neuron]) ** p).mean(axis=0)
            scale = np.maximum(of_top.mean(axis=0), _TINY) ** scale_p
            rows[neuron] = -error / max(chance[neuron], _TINY) / scale
        found.append(rows)
    return np.concatenate(found, axis=1)


def cos(
    activations: Float[np.ndarray, "images neurons"], chunks: Chunks
) -> Float[np.ndarray, "neurons concepts"]:
    """The cosine of a neuron's activations and a concept's cosines over all images."""
    unit = _unit(activations.astype(np.float64), _TINY)
    return np.concatenate([unit.T @ _unit(c.astype(np.float64), _TINY) for c in chunks()], axis=1)


def cos_cubed(
    activations: Float[np.ndarray, "images neurons"], chunks: Chunks
) -> Float[np.ndarray, "neurons concepts"]:
    """The same after taking away means and cubing, so that high values count (appendix)."""
    unit = _unit(_cubed(activations), 1e-3)
    return np.concatenate([unit.T @ _unit(_cubed(c), 1e-3) for c in chunks()], axis=1)


SIMILARITIES: Mapping[Similarity, Callable[..., Float[np.ndarray, "neurons concepts"]]] = {
    "soft_wpmi": soft_wpmi,
    "wpmi": wpmi,
    "rank_reorder": rank_reorder,
    "cos": cos,
    "cos_cubed": cos_cubed,
}


def _information(
    top: Int[np.ndarray, "top neurons"],
    chunks: Chunks,
    a: float,
    lam: float,
    log_probability: Callable[[Float[np.ndarray, "top concepts"]], Float[np.ndarray, "top concepts"]],
) -> Float[np.ndarray, "neurons concepts"]:
    """log p(images | concept) - lam log p(images), over all neurons of the layer."""
    total: np.ndarray | None = None  # the softmax over all concepts has its sum from a pass of its own
    for cosines in chunks():
        part = logsumexp(a * cosines.astype(np.float64), axis=1)
        total = part if total is None else np.logaddexp(total, part)
    found = []
    for cosines in chunks():
        given = np.empty((top.shape[1], cosines.shape[1]))
        for neuron in range(top.shape[1]):
            rows = top[:, neuron]
            assert total is not None
            probability = np.exp(a * cosines[rows].astype(np.float64) - total[rows, None])
            given[neuron] = log_probability(probability).sum(axis=0)
        found.append(given - lam * (logsumexp(given, axis=0) - np.log(len(given))))
    return np.concatenate(found, axis=1)


def _highest(activations: Float[np.ndarray, "images neurons"], k: int) -> Int[np.ndarray, "top neurons"]:
    """The images that activate each neuron most, highest first."""
    order: np.ndarray = np.argsort(-activations, axis=0, kind="stable")
    return order[: min(k, len(activations))]


def _unit(columns: Float[np.ndarray, "images n"], least: float) -> Float[np.ndarray, "images n"]:
    found: np.ndarray = columns / np.maximum(np.linalg.norm(columns, axis=0), least)
    return found


def _cubed(columns: Float[np.ndarray, "images n"]) -> Float[np.ndarray, "images n"]:
    exact: np.ndarray = columns.astype(np.float64)
    cubed: np.ndarray = (exact - exact.mean(axis=0)) ** 3
    return cubed
