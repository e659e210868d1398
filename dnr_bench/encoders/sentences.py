"""Sentence embeddings through sentence-transformers (all-mpnet-base-v2 in DnD)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import sentence_transformers
import transformers
from jaxtyping import Float
from sentence_transformers import SentenceTransformer

from dnr_bench.encoders.vocabulary import has_unknown_words
from dnr_bench.infra.devices import Batches, checked_device, take_turn
from dnr_bench.infra.digests import digest
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.hub import model_directory, short_name


class SentenceEncoder:
    """Unit vectors of texts; `checkpoint` is a sentence-transformers directory or a name on the hub."""

    def __init__(self, checkpoint: str, device: str, batch_size: int) -> None:
        path, weights = model_directory(checkpoint)
        if not (path / "modules.json").exists():
            raise UsageError(f"checkpoint={checkpoint!r} has no modules.json: no sentence-transformers model")
        self.name, self.device, self.batches = (
            short_name(checkpoint),
            checked_device(device),
            Batches(batch_size),
        )
        transformers.utils.logging.disable_progress_bar()  # of loading
        self.model = SentenceTransformer(str(path), device="cpu", local_files_only=True)
        self.model.float()
        self.fingerprint = digest(
            {
                "weights": weights,
                "dtype": "float32",
                "sentence-transformers": sentence_transformers.__version__,
            }
        )

    def embed_texts(self, texts: Sequence[str]) -> Float[np.ndarray, "texts dim"]:
        """One unit vector per text."""
        return np.concatenate(list(self.batches.over(texts, self._embedded))).astype(np.float32)

    def unknown(self, texts: Sequence[str]) -> list[bool]:
        """For each text whether it has a word that the model does not know."""
        return has_unknown_words(self.model.tokenizer, texts)

    def _embedded(self, texts: Sequence[str]) -> np.ndarray:
        take_turn(self.model, self.device)
        vectors: np.ndarray = self.model.encode(
            list(texts), batch_size=len(texts), normalize_embeddings=True, show_progress_bar=False
        )
        return vectors
