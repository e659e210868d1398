"""Sentence embeddings through sentence-transformers (all-mpnet-base-v2 in DnD)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from dnr_bench.encoders.vocabulary import Vocabulary
from dnr_bench.infra.batches import Batches
from dnr_bench.infra.devices import checked_device, take_turn
from dnr_bench.infra.digests import digest
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.hub import model_directory, short_name
from dnr_bench.infra.on_demand import OnDemand


class SentenceEncoder:
    """Unit vectors of texts; `checkpoint` is a sentence-transformers directory or a name on the hub."""

    def __init__(self, checkpoint: str, device: str, batch_size: int) -> None:
        path, weights = model_directory(checkpoint)
        if not (path / "modules.json").exists():
            raise UsageError(f"checkpoint={checkpoint!r} has no modules.json: no sentence-transformers model")
        self.name, self.device = short_name(checkpoint), checked_device(device)
        self.batches, self.vocabulary = Batches(batch_size, device), Vocabulary(path)
        self._model = OnDemand(lambda: _loaded(path))
        self.fingerprint = digest(
            {
                "weights": weights,
                "dtype": "float32",
                "sentence-transformers": version("sentence-transformers"),
            }
        )

    def embed_texts(self, texts: Sequence[str]) -> Float[np.ndarray, "texts dim"]:
        """One unit vector per text."""
        return np.concatenate(list(self.batches.over(texts, self._embedded))).astype(np.float32)

    def unknown(self, texts: Sequence[str]) -> list[bool]:
        """For each text whether it has a word that the model does not know."""
        return self.vocabulary.unknown(texts)

    def _embedded(self, texts: Sequence[str]) -> np.ndarray:
        model = self._model()
        take_turn(model, self.device)
        vectors: np.ndarray = model.encode(
            list(texts), batch_size=len(texts), normalize_embeddings=True, show_progress_bar=False
        )
        return vectors


def _loaded(path: Path) -> Any:
    import transformers
    from sentence_transformers import SentenceTransformer

    transformers.utils.logging.disable_progress_bar()  # of loading
    return SentenceTransformer(str(path), device="cpu", local_files_only=True).float()
