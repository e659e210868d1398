"""When no concept stands out: neurons that their best concept drives no more than others do."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from dnr_bench.data.neuron import Neuron
from dnr_bench.session import Session


def undriven(answers: Mapping[Neuron, str], margin: float, session: Session) -> set[Neuron]:
    """The neurons that their answer drives no more than the answers of other neurons of the layer do."""
    weak: set[Neuron] = set()
    drawn = session.draw(list(answers.values()))
    exemplars = session.exemplars(list(answers))
    for layer in dict.fromkeys(neuron.layer for neuron in answers):
        texts = list(dict.fromkeys(text for n, text in answers.items() if n.layer == layer))
        means = np.stack([drawn[text].activations[layer].mean(axis=0) for text in texts])
        weak |= {
            neuron
            for neuron, text in answers.items()
            if neuron.layer == layer
            and not drives(
                means[:, neuron.unit], texts.index(text), exemplars[neuron].mean_activation, margin
            )
        }
    return weak


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
