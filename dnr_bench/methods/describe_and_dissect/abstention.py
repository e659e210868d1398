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
    exemplars = session.exemplars(list(answers))
    layers = list(dict.fromkeys(neuron.layer for neuron in answers))
    units = {layer: [n.unit for n in answers if n.layer == layer] for layer in layers}
    found: dict[str, dict[str, np.ndarray]] = {layer: {} for layer in layers}
    for rendering in session.draw(list(answers.values())):
        for layer in layers:
            of_layer = rendering.activations[layer]
            found[layer][rendering.concept] = of_layer[:, units[layer]].mean(axis=0)
    for layer in layers:
        texts = list(dict.fromkeys(text for n, text in answers.items() if n.layer == layer))
        means = np.stack([found[layer][text] for text in texts])
        weak |= {
            neuron
            for neuron, text in answers.items()
            if neuron.layer == layer
            and not drives(
                means[:, units[layer].index(neuron.unit)],
                texts.index(text),
                exemplars[neuron].mean_activation,
                margin,
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
