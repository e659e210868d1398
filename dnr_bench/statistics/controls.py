"""Controls for scores: chance, true labels, and single words for all neurons. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from jaxtyping import Float


def normalized(
    score: float, chance: float | None, oracle: float | None, higher_is_better: bool = True
) -> float | None:
    """Where a score stands between chance (0) and oracle (1); None where the oracle is no better than chance.

    Then true labels say nothing of the neurons, as on a network that was never trained.
    """
    if chance is None or oracle is None or (oracle <= chance if higher_is_better else oracle >= chance):
        return None
    return (score - chance) / (oracle - chance)


def shuffled_mean(scores: Float[np.ndarray, "items labels"], of_item: Collection[int]) -> float:
    """The exact mean over items when labels are dealt to them at random, none to its own item.

    scores[i, j]: the metric of item i with the label of item j; `of_item`: the items that count.
    """
    others = ~np.eye(len(scores), dtype=bool)
    others &= ~np.isnan(scores)
    rows = [float(scores[i][others[i]].mean()) for i in of_item if others[i].any()]
    return float(np.mean(rows)) if rows else np.nan


def dealt_elsewhere(n: int, deals: int, rng: np.random.Generator) -> list[list[int]]:
    """Up to `deals` ways to deal n labels to n items at random, none to its own item."""
    order = rng.permutation(n)
    found = []
    for shift in range(1, min(deals, n - 1) + 1):
        dealt = np.empty(n, int)
        dealt[order] = np.roll(order, shift)
        found.append(dealt.tolist())
    return found


def word_controls(
    scores: Float[np.ndarray, "items words"], higher_is_better: bool = True
) -> dict[str, float]:
    """The score of one-word labels: of a random word, and of the best word for all items."""
    known = ~np.isnan(scores).all(axis=1)  # a unit that no word has a value for says nothing of words
    if not known.any():
        return {}
    means = scores[known].mean(axis=0)
    best = means.max() if higher_is_better else means.min()
    return {"random_word": float(means.mean()), "best_constant": float(best)}


def beaten_by(
    control: str,
    mean: float | None,
    controls: Mapping[str, float | None],
    higher_is_better: bool | None,
    oracle: float | None = None,
) -> bool:
    """Whether labels that cost nothing do as well as the neurons' own or better: then these tell little.

    control: "best_constant", one label for all neurons, or "copy", the caption of the highest exemplar.
    Labels that reach the oracle are beaten by nothing.
    """
    reached = controls.get(control)
    if higher_is_better is None or mean is None or reached is None or mean == oracle:
        return False
    return reached >= mean if higher_is_better else reached <= mean
