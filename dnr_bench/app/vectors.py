"""The vectors of a run's neurons, which `dnr-bench search` reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dnr_bench.data.neuron import Neuron
from dnr_bench.results.schema import RunResult
from dnr_bench.results.unit_vectors import UnitVectors, label_vectors
from dnr_bench.session import Session


def keep_vectors(result: RunResult, session: Session, folder: Path) -> None:
    """Write vectors.npz beside the result; nothing where no neuron was shown with images."""
    shown = [neuron for neuron in result.neurons if neuron.exemplars]
    if not shown:
        return
    found = session.exemplar_vectors([Neuron(neuron.layer, neuron.unit) for neuron in shown])
    vectors = np.stack(list(found.values()))
    labels = [neuron.labels[0] if neuron.labels else None for neuron in shown]
    known = [label for label in labels if label is not None]
    texts = session.embed_texts(known) if known else np.empty((0, vectors.shape[1]), np.float32)
    encoder = session.encoder
    UnitVectors(
        tuple(neuron.name for neuron in shown),
        vectors,
        label_vectors(labels, texts, vectors.shape[1]),
        (encoder.name, encoder.fingerprint),
    ).write(folder)
