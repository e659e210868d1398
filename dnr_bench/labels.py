"""From ranked candidates to labels: several of them (DnD A.7), or none. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from dnr_bench.errors import UsageError


@dataclass(frozen=True)
class LabelSettings:
    """n_labels: labels a neuron. max_label_cosine: one with a higher CLIP text cosine to a better one is out.

    abstain_margin: a neuron is left without a label where its best concept drives it less than this above
    other neurons' concepts, in units of its exemplars' activation; None: every neuron gets one, as in the
    papers.
    """

    n_labels: int
    max_label_cosine: float
    abstain_margin: float | None

    def __post_init__(self) -> None:
        if self.n_labels < 1:
            raise UsageError(f"n_labels={self.n_labels} must be at least 1")
        if not -1 <= self.max_label_cosine <= 1:
            raise UsageError(f"max_label_cosine={self.max_label_cosine} must lie in -1..1")


def first_distinct(
    texts: Sequence[str], vectors: Float[np.ndarray, "texts dim"] | None, settings: LabelSettings
) -> tuple[str, ...]:
    """The first `n_labels` texts in order, without those too close to a kept one; vectors have length 1."""
    if vectors is None:
        return tuple(texts[: settings.n_labels])
    cosines = vectors @ vectors.T
    kept: list[int] = []
    for index in range(len(texts)):
        if all(cosines[index, other] <= settings.max_label_cosine for other in kept):
            kept.append(index)
    return tuple(texts[index] for index in kept[: settings.n_labels])


def drives(
    means: Float[np.ndarray, " concepts"], own: int, exemplar_activation: float, margin: float
) -> bool:
    """Whether a unit's own concept stands out from the other concepts by `margin` exemplar activations.

    `means`: the unit's mean activation on each concept's images. With fewer than two others nothing can be
    said, and the concept stands.
    """
    others = np.delete(means, own)
    if len(others) < 2:
        return True
    return bool(means[own] > others.mean() + margin * abs(exemplar_activation))
