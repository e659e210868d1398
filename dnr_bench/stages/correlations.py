"""Does a neuron fire on the real images that show a concept, and on no others? For `probe_correlation`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from dnr_bench.data.exemplars import Activations
from dnr_bench.data.neuron import Neuron
from dnr_bench.infra.store import Store
from dnr_bench.protocols import ImageTextEncoder
from dnr_bench.stages.embeddings import embed_texts

_CHUNK = 8192


def probe_correlations(
    store: Store,
    encoder: ImageTextEncoder,
    images: Float[np.ndarray, "images dim"],
    activations: Mapping[str, Activations],
    concepts: Mapping[Neuron, Sequence[str]],
) -> dict[Neuron, Float[np.ndarray, " _"]]:
    """For each neuron and concept Pearson's r, over the probing set, of activation and CLIP cosine.

    images: the CLIP vectors of the probing set. Their rows are read in chunks, so that memory does not grow
    with their number.
    """
    unique = list(dict.fromkeys(text for texts in concepts.values() for text in texts))
    if not unique:
        return {neuron: np.empty(0) for neuron in concepts}
    texts = embed_texts(store, encoder, unique)
    column = {text: index for index, text in enumerate(unique)}
    result: dict[Neuron, np.ndarray] = {}
    for layer in dict.fromkeys(neuron.layer for neuron in concepts):
        members = [neuron for neuron in concepts if neuron.layer == layer]
        units = [neuron.unit for neuron in members]
        chunks = (
            (activations[layer].values[rows][:, units], images[rows] @ texts.T)
            for rows in (slice(first, first + _CHUNK) for first in range(0, len(images), _CHUNK))
        )
        table = pearson(chunks)
        for row, neuron in enumerate(members):
            result[neuron] = table[row, [column[text] for text in concepts[neuron]]]
    return {neuron: result[neuron] for neuron in concepts}


def pearson(
    chunks: Iterator[tuple[Float[np.ndarray, "rows a"], Float[np.ndarray, "rows b"]]],
) -> Float[np.ndarray, "a b"]:
    """Pearson's r of every column of the first with every column of the second, rows coming in chunks.

    0 where a column is constant. Sums are taken around the first row, so that no precision is lost to means.
    """
    n, shift = 0, None
    for left, right in chunks:
        a, b = left.astype(np.float64), right.astype(np.float64)
        if shift is None:
            shift = a[0].copy(), b[0].copy()
            sums = [np.zeros(a.shape[1]), np.zeros(b.shape[1])]
            squares = [np.zeros(a.shape[1]), np.zeros(b.shape[1])]
            products = np.zeros((a.shape[1], b.shape[1]))
        a, b = a - shift[0], b - shift[1]
        n += len(a)
        products += a.T @ b
        for index, values in enumerate((a, b)):
            sums[index] += values.sum(axis=0)
            squares[index] += (values**2).sum(axis=0)
    if shift is None:
        raise ValueError("no rows")
    covariance = products - np.outer(sums[0], sums[1]) / n
    variances = [squared - total**2 / n for squared, total in zip(squares, sums, strict=True)]
    scale = np.sqrt(np.outer(*(np.maximum(variance, 0) for variance in variances)))
    return np.divide(covariance, scale, out=np.zeros_like(covariance), where=scale > 1e-12)
