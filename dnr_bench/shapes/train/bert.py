"""Trains the embedded BERT on the world's captions and phrases; for BERTScore.

It guesses masked words, and names those that are not masked: where only masked ones count, words of one kind
("red", "blue") end up with the same states, and BERTScore could not tell them apart.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from safetensors.torch import save_file
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

from dnr_bench.shapes.phrases import partial_concept, phrase
from dnr_bench.shapes.render import sample_scene
from dnr_bench.shapes.train.loop import fit, half_weights
from dnr_bench.shapes.train.tokenizer import SPECIAL, VOCABULARY, build_tokenizer
from dnr_bench.shapes.world import CAPTION_TEMPLATES, caption, scene_rng

CONFIG = BertConfig(
    vocab_size=len(VOCABULARY),
    hidden_size=96,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=384,
    max_position_embeddings=40,
    type_vocab_size=1,
    pad_token_id=VOCABULARY["[PAD]"],
)
_MASKED_SHARE = 0.2
_IGNORED = -100


def train(
    directory: Path, work: Path, *, n_texts: int = 60_000, steps: int = 1_500, start: Path | None = None
) -> None:
    """Train and write a BERT directory (float16 weights without the head, config and tokenizer)."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    model = BertForMaskedLM(CONFIG)
    texts = world_texts(n_texts)

    def loss_of(indices: np.ndarray) -> Tensor:
        batch = tokenizer([texts[i] for i in indices], padding=True, return_tensors="pt")
        ids, labels = _masked(batch["input_ids"], np.random.default_rng(indices[:4]))
        loss: Tensor = model(input_ids=ids, attention_mask=batch["attention_mask"], labels=labels).loss
        return loss

    fit(model, loss_of, n_texts, work / "bert.pt", steps=steps, batch_size=128, learning_rate=1e-3,
        start=start)  # fmt: skip
    write_bert(model.bert, tokenizer, directory)


def world_texts(n: int) -> list[str]:
    """Captions and phrases of the world's training scenes, half of each."""
    texts = []
    for index in range(n):
        rng = scene_rng("train", 2, index)
        scene = sample_scene(rng)
        if index % 2:
            texts.append(caption(scene, int(rng.integers(len(CAPTION_TEMPLATES)))))
        else:
            texts.append(phrase(partial_concept(scene, rng), rng))
    return texts


def write_bert(model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast, directory: Path) -> None:
    """A directory that transformers loads as a BERT, computing in float32."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(directory)
    config = BertConfig(**{**CONFIG.to_dict(), "dtype": "float32", "architectures": ["BertModel"]})
    config.save_pretrained(directory)
    unused = {  # transformers complains of its absence
        "pooler.dense.weight": torch.zeros(CONFIG.hidden_size, CONFIG.hidden_size, dtype=torch.float16),
        "pooler.dense.bias": torch.zeros(CONFIG.hidden_size, dtype=torch.float16),
    }
    save_file(unused | half_weights(model), directory / "model.safetensors", metadata={"format": "pt"})


def _masked(
    ids: Int[Tensor, "texts words"], rng: np.random.Generator
) -> tuple[Int[Tensor, "texts words"], Int[Tensor, "texts words"]]:
    """The texts with some words hidden, and all their words (the loss ignores what is no word)."""
    special = torch.isin(ids, torch.tensor([VOCABULARY[name] for name in (*SPECIAL, "[SEP]")]))
    hidden = torch.from_numpy(rng.random(ids.shape) < _MASKED_SHARE) & ~special
    return ids.masked_fill(hidden, VOCABULARY["[MASK]"]), ids.masked_fill(special, _IGNORED)
