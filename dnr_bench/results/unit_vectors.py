"""What each neuron of a run is about, as a CLIP vector: kept beside its result, for searches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.files import writing
from dnr_bench.statistics.search import chance_of, similarities

_NAME = "vectors.npz"


@dataclass(frozen=True)
class UnitVectors:
    """The mean CLIP vector of each neuron's exemplars, and the vector of its label.

    neurons: their names. labels: unit vectors of labels; NaN where a neuron has none. encoder: the name of
    the CLIP, and its fingerprint: texts of another one cannot be compared.
    """

    neurons: tuple[str, ...]
    vectors: Float[np.ndarray, "neurons dim"]
    labels: Float[np.ndarray, "neurons dim"]
    encoder: tuple[str, str]

    def write(self, folder: Path) -> None:
        """Write vectors.npz, whole or not at all."""
        with writing(folder / _NAME) as partial, partial.open("wb") as file:
            np.savez_compressed(
                file,
                neurons=np.asarray(self.neurons, str),
                vectors=self.vectors.astype(np.float16),
                labels=self.labels.astype(np.float16),
                encoder=np.asarray(self.encoder, str),
            )

    @classmethod
    def read(cls, folder: Path) -> UnitVectors:
        """Those of a run's folder.

        Raises `UsageError` where there are none, or the file holds something else.
        """
        path = folder / _NAME
        if not path.is_file():
            raise UsageError(
                f"{folder} has no {_NAME}: it is the folder of no run, or one with report=false, or of a run"
                " that looked at no images"
            )
        try:
            with np.load(path, allow_pickle=False) as found:
                names, encoder = (np.asarray(found[name], str) for name in ("neurons", "encoder"))
                vectors, labels = (found[name].astype(np.float32) for name in ("vectors", "labels"))
        except Exception as error:  # of zip, of NumPy, or of the decompression of damaged content
            raise UsageError(f"{path} holds no vectors of neurons: {error}") from error
        fits = names.ndim == 1 and encoder.shape == (2,) and vectors.ndim == 2
        if not (fits and vectors.shape == labels.shape and len(names) == len(vectors) > 0):
            raise UsageError(f"{path} holds no vectors of neurons: its arrays do not fit each other")
        if not np.isfinite(vectors).all():
            raise UsageError(f"{path} holds no vectors of neurons: some are not finite")
        return cls(tuple(names.tolist()), vectors, labels, (str(encoder[0]), str(encoder[1])))

    def search(
        self, texts: Float[np.ndarray, "texts dim"]
    ) -> tuple[Float[np.ndarray, "neurons texts"], Float[np.ndarray, "neurons texts"]]:
        """How similar each neuron is to each text, and how often chance gives as much.

        By chance go together: each neuron, and the label of another one.
        """
        labeled = ~np.isnan(self.labels).any(axis=1)
        known = self.labels[labeled]
        found = similarities(self.vectors, texts, known)
        others = similarities(self.vectors, known, known)
        others[np.flatnonzero(labeled), np.arange(len(known))] = np.nan
        by_chance = others[~np.isnan(others)]
        shares = np.stack([chance_of(column, by_chance) for column in found.T], axis=1)
        return found, shares


def label_vectors(
    labels: Sequence[str | None], vectors: Float[np.ndarray, "known dim"], dim: int
) -> Float[np.ndarray, "neurons dim"]:
    """One row per neuron: the vector of its label, in the order of those that have one, else NaN."""
    found = np.full((len(labels), dim), np.nan, np.float32)
    found[[place for place, label in enumerate(labels) if label is not None]] = vectors
    return found
