"""BERTScore (Zhang et al. 2020) through bert-score: how well the words of two texts match for a BERT."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from jaxtyping import Float

from dnr_bench.encoders.vocabulary import Vocabulary
from dnr_bench.infra.batches import Batches
from dnr_bench.infra.devices import checked_device, take_turn
from dnr_bench.infra.digests import digest
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.hub import config_value, model_directory, short_name
from dnr_bench.infra.on_demand import OnDemand


class BertScore:
    """BERTScore's F1, without idf weights and without rescaling, as DnD reports it.

    `checkpoint` is the directory of a BERT or a name on the hub. `layer`: the layer whose states are
    compared; None: what bert-score holds best for models that it knows by name.
    """

    def __init__(self, checkpoint: str, layer: int | None, device: str, batch_size: int) -> None:
        path, weights = model_directory(checkpoint)
        self.name, self.device = short_name(checkpoint), checked_device(device)
        self.batches, self.vocabulary = Batches(batch_size, device), Vocabulary(path)
        known = _checked(_best_layer(checkpoint) if layer is None else layer, checkpoint, path)
        self._scorer = OnDemand(lambda: _loaded(path, known, device))
        self.fingerprint = digest(
            {
                "weights": weights,
                "layer": known,
                "dtype": "float32",
                "bert-score": version("bert-score"),
                "transformers": version("transformers"),
            }
        )

    def unknown(self, texts: Sequence[str]) -> list[bool]:
        """For each text whether it has a word that the model does not know."""
        return self.vocabulary.unknown(texts)

    def f1(self, texts: Sequence[str], references: Sequence[str]) -> Float[np.ndarray, " pairs"]:
        """F1 of each text against the reference at its place; no text may be empty."""
        if not texts:
            return np.empty(0)
        pairs = list(zip(texts, references, strict=True))
        return np.concatenate(list(self.batches.over(pairs, self._f1)))

    def _f1(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        scorer = self._scorer()
        take_turn(scorer._model, self.device)
        texts, references = zip(*pairs, strict=True)
        _, _, f1 = scorer.score(list(texts), list(references), batch_size=len(pairs))
        found: np.ndarray = f1.numpy().astype(float)
        return found


def _loaded(path: Path, layer: int, device: str) -> Any:
    import transformers
    from bert_score import BERTScorer

    transformers.utils.logging.disable_progress_bar()  # of loading
    with _plain_name(path) as plain:
        scorer = BERTScorer(str(plain), num_layers=layer, device="cpu")
    scorer.device = device  # its model goes there when it is its turn
    scorer._model.float()
    scorer._tokenizer.model_max_length = min(scorer._tokenizer.model_max_length, 512)
    return scorer


def _best_layer(checkpoint: str) -> int | None:
    """The layer that bert-score holds best for a model that it knows by name."""
    from bert_score.utils import model2layers

    known: int | None = model2layers.get(checkpoint, model2layers.get(checkpoint.split("/")[-1]))
    return known


def _checked(layer: int | None, checkpoint: str, path: Path) -> int:
    n_layers = config_value(path, "num_hidden_layers", int, f"checkpoint={checkpoint!r} is no BERT")
    if layer is None or not 1 <= layer <= n_layers:
        raise UsageError(f"layer={layer} must lie in 1..{n_layers} for checkpoint={checkpoint!r}")
    return layer


@contextmanager
def _plain_name(path: Path) -> Iterator[Path]:
    """The directory under a name by which bert-score takes it for no T5, as it does with ".../project5/"."""
    if "t5" not in str(path):
        yield path
        return
    for _ in range(100):
        with TemporaryDirectory(prefix="bert-") as folder:
            if "t5" not in folder:  # random names, too, can hold it
                link = Path(folder) / "model"
                link.symlink_to(path.resolve(), target_is_directory=True)
                yield link
                return
    raise UsageError(f"bert-score takes {path} for a T5 model because of 't5' in its name: move it")
