"""When no concept stands out: neurons that their best concept drives no more than others do."""

from __future__ import annotations

from collections.abc import Mapping
from math import copysign, inf

import numpy as np
from jaxtyping import Float

from dnr_bench.data.neuron import Neuron
from dnr_bench.session import Session


def undriven(answers: Mapping[Neuron, str], margin: float, session: Session) -> set[Neuron]:
    """The neurons that their answer drives no more than the answers of other neurons of the layer do."""
    return {neuron for neuron, drive in drives(answers, session).items() if not drive > margin}


def drives(answers: Mapping[Neuron, str], session: Session) -> dict[Neuron, float]:
    """How far each living neuron is driven by its answer above the answers of other neurons of the layer.

    On the images that choose labels, in units of the neuron's exemplars' activation.
    """
    exemplars = session.exemplars(list(answers))
    answers = {neuron: answers[neuron] for neuron in exemplars}
    layers = list(dict.fromkeys(neuron.layer for neuron in answers))
    units = {layer: [n.unit for n in answers if n.layer == layer] for layer in layers}
    found: dict[str, dict[str, np.ndarray]] = {layer: {} for layer in layers}
    for rendering in session.draw(list(answers.values())):
        for layer in layers:
            of_layer = rendering.activations[layer]
            found[layer][rendering.concept] = of_layer[:, units[layer]].mean(axis=0)
    driven: dict[Neuron, float] = {}
    for layer in layers:
        members = [neuron for neuron in answers if neuron.layer == layer]
        texts = list(dict.fromkeys(answers[neuron] for neuron in members))
        means = np.stack([found[layer][text] for text in texts])
        for column, neuron in enumerate(members):
            own, height = texts.index(answers[neuron]), exemplars[neuron].mean_activation
            driven[neuron] = drive(means[:, column], own, height)
    return driven


def drive(means: Float[np.ndarray, " concepts"], own: int, exemplar_activation: float) -> float:
    """How far a unit's own concept stands out from the others, in exemplar activations.

    `means`: the unit's mean activation on each concept's images. With fewer than two others nothing can be
    said: infinite, so that the concept stands.
    """
    others = np.delete(means, own)
    if len(others) < 2:
        return inf
    lead = float(means[own] - others.mean())
    if exemplar_activation == 0:
        return copysign(inf, lead) if lead else 0.0
    return lead / abs(exemplar_activation)
