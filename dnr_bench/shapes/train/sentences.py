"""Trains the embedded sentence encoder: the cosine of two texts is the share of attributes they share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from torch import Tensor, nn
from transformers import BertModel

from dnr_bench.infra.shipped import CHECKPOINTS
from dnr_bench.shapes.concepts import FACET_OF, Concept
from dnr_bench.shapes.phrases import partial_concept, phrase
from dnr_bench.shapes.render import sample_scene
from dnr_bench.shapes.train.bert import write_bert
from dnr_bench.shapes.train.loop import fit
from dnr_bench.shapes.train.tokenizer import build_tokenizer
from dnr_bench.shapes.world import scene_rng

_ATTRIBUTES = {attribute: index for index, attribute in enumerate(FACET_OF)}


def train(
    directory: Path, work: Path, *, n_texts: int = 60_000, steps: int = 3_000, start: Path | None = None
) -> None:
    """Begin with the embedded BERT, and write a sentence-transformers directory."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    model = BertModel.from_pretrained(CHECKPOINTS / "bert", dtype=torch.float32, add_pooling_layer=False)
    concepts = [_concept(index) for index in range(n_texts)]

    def loss_of(indices: np.ndarray) -> Tensor:
        rng = np.random.default_rng(indices[:4])
        chosen = [concepts[i] for i in indices]
        batch = tokenizer([phrase(concept, rng) for concept in chosen], padding=True, return_tensors="pt")
        vectors = nn.functional.normalize(_mean_pooled(model, batch).float(), dim=1)
        return nn.functional.mse_loss(vectors @ vectors.T, torch.from_numpy(shared_attributes(chosen)))

    fit(model, loss_of, n_texts, work / "sentences.pt", steps=steps, batch_size=128, learning_rate=1e-3,
        start=start)  # fmt: skip
    write_bert(model, tokenizer, directory)
    transformer = Transformer(str(directory), max_seq_length=40)
    pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode="mean")
    encoder = SentenceTransformer(modules=[transformer, pooling, Normalize()], device="cpu")
    encoder.save(str(directory), create_model_card=False)
    write_bert(model, tokenizer, directory)  # float16 again


def shared_attributes(concepts: list[Concept]) -> Float[np.ndarray, "texts texts"]:
    """Dice's coefficient of every two concepts' attributes; alternatives count together."""
    named = np.zeros((len(concepts), len(_ATTRIBUTES)), np.float32)
    for row, concept in enumerate(concepts):
        named[row, [_ATTRIBUTES[attribute] for attribute in concept.attributes]] = 1
    sizes = named.sum(axis=1)
    dice: np.ndarray = 2 * named @ named.T / (sizes[:, None] + sizes[None, :])
    return dice


def _concept(index: int) -> Concept:
    rng = scene_rng("train", 3, index)
    return partial_concept(sample_scene(rng), rng)


def _mean_pooled(model: nn.Module, batch: Mapping[str, Tensor]) -> Float[Tensor, "texts dim"]:
    states = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1).to(states.dtype)
    pooled: Tensor = (states * mask).sum(dim=1) / mask.sum(dim=1)
    return pooled
