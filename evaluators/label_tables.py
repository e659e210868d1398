"""A metric of every neuron with every label of a run, as a scorecard with chance level and oracle."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float

from dnr_bench.data.exemplars import Activations
from dnr_bench.data.explanation import Description, Explanation
from dnr_bench.data.images import ProbeSet
from dnr_bench.data.scorecard import Scorecard
from dnr_bench.session import Session
from dnr_bench.statistics.controls import shuffled_mean, word_controls
from dnr_bench.statistics.detection import correlation

#: Units that are looked at together.
_UNITS = 512


def label_texts(description: Description) -> tuple[list[Explanation], list[str], int]:
    """The neurons that have a label, the distinct labels and then known truths, and how many are labels."""
    labeled = [e for e in description.explanations if e.labels]
    labels = list(dict.fromkeys(e.labels[0] for e in labeled))
    true = [description.truth[e.neuron] for e in labeled if e.neuron in description.truth]
    return labeled, list(dict.fromkeys([*labels, *true])), len(labels)


def card_of_table(
    group: str,
    metric: str,
    table: Float[np.ndarray, "neurons texts"],
    explanations: Sequence[Explanation],
    texts: Sequence[str],
    n_labels: int,
    description: Description,
    *,
    unit: str,
    headline: bool = False,
    judge: str = "",
) -> Scorecard:
    """The values of each neuron's own label.

    chance: labels of other neurons. oracle: true labels of the neurons that have one. best_constant: the one
    label of this run that would do best for all neurons.

    Args:
        group, metric, unit, headline, judge: as of a scorecard.
        table: the metric of each neuron with each text.
        explanations: of the neurons in the table's order, each with a label.
        texts: `n_labels` labels, then truths that are no label.
        description: all neurons; those without a label are unscored.
    """
    place = {text: column for column, text in enumerate(texts)}
    own = [place[e.labels[0]] for e in explanations]
    known = [(row, e.neuron) for row, e in enumerate(explanations) if e.neuron in description.truth]
    true = [table[row, place[description.truth[neuron]]] for row, neuron in known]
    dealt = table[:, own]
    return Scorecard.of_neurons(
        group,
        metric,
        explanations,
        np.diagonal(dealt).copy(),
        unit=unit,
        headline=headline,
        higher_is_better=True,
        chance=shuffled_mean(dealt, range(len(own))),
        oracle=mean_known(np.asarray(true)) if true else None,
        controls=word_controls(table[:, :n_labels]),
        judge=judge,
        unscored=[e for e in description.explanations if not e.labels],
    )


def mean_known(values: Float[np.ndarray, " items"]) -> float:
    """The mean of what is no NaN; NaN where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def held_out_correlations(
    labeled: Sequence[Explanation], texts: Sequence[str], images: ProbeSet, session: Session
) -> Float[np.ndarray, "neurons texts"]:
    """Pearson's r over held-out images of each neuron's activation and each text's CLIP cosine.

    NaN for neurons that have one activation on all of them.
    """
    outputs, cosines = _held_out(texts, images, session)
    table = np.empty((len(labeled), len(texts)))
    for layer in dict.fromkeys(e.neuron.layer for e in labeled):
        rows = [row for row, e in enumerate(labeled) if e.neuron.layer == layer]
        units = [labeled[row].neuron.unit for row in rows]
        table[rows] = unit_correlations(outputs[layer].values[:, units], cosines)
    return table


def layer_correlations(
    layers: Iterable[str], texts: Sequence[str], images: ProbeSet, session: Session
) -> dict[str, Float[np.ndarray, "units texts"]]:
    """The same for all units of layers, described or not."""
    outputs, cosines = _held_out(texts, images, session)
    return {layer: unit_correlations(outputs[layer].values, cosines) for layer in layers}


def unit_correlations(
    values: Float[np.ndarray, "images units"], others: Float[np.ndarray, "images columns"]
) -> Float[np.ndarray, "units columns"]:
    """Pearson's r of each unit with each other column; units in blocks, so that memory stays flat in them."""
    blocks = range(0, values.shape[1], _UNITS)
    return np.concatenate([correlation(values[:, i : i + _UNITS].astype(float), others) for i in blocks])


def _held_out(
    texts: Sequence[str], images: ProbeSet, session: Session
) -> tuple[dict[str, Activations], Float[np.ndarray, "images texts"]]:
    """The activations of all layers, and the CLIP cosine of each image with each text."""
    outputs = session.held_out.activations(images)
    return outputs, np.concatenate(list(session.held_out.cosines(images, texts)))
