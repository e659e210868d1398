"""Trains the embedded captioner: BLIP's image-to-text loss, and heads beside it that speed it up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from tqdm import trange
from transformers import BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

from dnr_bench.app.composition import load_config
from dnr_bench.app.parts import PartBuilder
from dnr_bench.data.images import Image
from dnr_bench.infra.shipped import CHECKPOINTS
from dnr_bench.protocols import Generator
from dnr_bench.shapes.concepts import FACETS
from dnr_bench.shapes.render import SIZE
from dnr_bench.shapes.train.autoencoder import decode, encode
from dnr_bench.shapes.train.data import draw_scenes, turned
from dnr_bench.shapes.train.loop import fit
from dnr_bench.shapes.train.tokenizer import VOCABULARY, build_tokenizer
from dnr_bench.shapes.world import caption, held_out_scene

VISION = {
    "hidden_size": 160,
    "intermediate_size": 480,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "image_size": SIZE,
    "patch_size": 8,
}
TEXT = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "encoder_hidden_size": VISION["hidden_size"],
    "max_position_embeddings": 40,
    "bos_token_id": VOCABULARY["[DEC]"],
    "eos_token_id": VOCABULARY["[SEP]"],
    "pad_token_id": VOCABULARY["[PAD]"],
    "sep_token_id": VOCABULARY["[SEP]"],
    "label_smoothing": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "hidden_dropout_prob": 0.0,
}

#: Of the training images looks as the text-to-image model would draw it: smooth, without noise.
_REDRAWN_SHARE = 0.25
#: Of the training images are drawn by it.
_GENERATED_SHARE = 0.15
_BATCH = 160


class _Student(nn.Module):
    """The BLIP model, and heads that are dropped after training: attributes, and the object's mask."""

    def __init__(self) -> None:
        super().__init__()
        config = BlipConfig(
            vision_config=VISION, text_config=TEXT, projection_dim=128, image_text_hidden_size=128
        )
        self.blip = BlipForConditionalGeneration(config)
        width = int(VISION["hidden_size"])
        self.heads = nn.ModuleDict({facet: nn.Linear(2 * width, len(v)) for facet, v in FACETS.items()})
        self.coverage = nn.Linear(width, (int(VISION["patch_size"]) // 2) ** 2)


def train(
    directory: Path, work: Path, *, n_images: int = 80_000, steps: int = 17_000, start: Path | None = None
) -> None:
    """Train and write a `BlipForConditionalGeneration` directory (float16) with its processor."""
    torch.manual_seed(0)
    student = _Student()
    tokenizer = build_tokenizer(start="[DEC]")
    data = draw_scenes("train", n_images, zoomed_share=0.25)
    redrawn = slice(0, int(_REDRAWN_SHARE * n_images))
    data.images[redrawn] = _as_generated(data.images[redrawn])
    truth = data.truth()
    last = range(n_images - int(_GENERATED_SHARE * n_images), n_images)
    generated = np.array([i for i in last if not held_out_scene(data.scenes[i])])
    data.images[generated] = _generated([caption(data.scenes[i]) for i in generated])
    tokens = tokenizer([caption(scene) for scene in data.scenes], return_tensors="pt", padding=True)

    def loss_of(indices: np.ndarray) -> Tensor:
        _, images = data.batch(indices.tolist())
        turn = int(np.random.default_rng(indices[:4]).integers(8))
        images, covered = turned(images, turn), turned(data.covered(indices.tolist()), turn)
        ids, mask = tokens["input_ids"][indices], tokens["attention_mask"][indices]
        seen = student.blip.vision_model((images - 0.5) / 0.25).last_hidden_state
        words = student.blip.text_decoder(
            input_ids=ids,
            attention_mask=mask,
            encoder_hidden_states=seen,
            labels=ids.masked_fill(mask == 0, -100),
        ).loss
        pooled = torch.cat([seen[:, 0], seen[:, 1:].mean(dim=1)], dim=1)
        attributes = [
            nn.functional.cross_entropy(head(pooled).float(), truth[facet][indices])
            for facet, head in student.heads.items()
        ]
        cells = student.coverage(seen[:, 1:]).float()
        known = ~np.isin(indices, generated)  # where a generated object lies is not
        where = nn.functional.binary_cross_entropy_with_logits(cells[known], _patches(covered)[known])
        loss: Tensor = words + torch.stack(attributes).sum() / 2 + where
        return loss

    fit(student, loss_of, n_images, work / "captioner.pt", steps=steps, batch_size=96, learning_rate=1e-3,
        weight_decay=0.05, start=start)  # fmt: skip
    directory.mkdir(parents=True, exist_ok=True)
    student.blip.half().save_pretrained(directory)
    image_processor = BlipImageProcessor(
        size={"height": SIZE, "width": SIZE}, image_mean=[0.5] * 3, image_std=[0.25] * 3, resample=2
    )
    BlipProcessor(image_processor, tokenizer).save_pretrained(directory)


def _as_generated(images: np.ndarray) -> np.ndarray:
    """Images [n, 64, 64, 3] through the generator's autoencoder: its look, with captions that still hold."""
    autoencoder = AutoencoderKL.from_pretrained(CHECKPOINTS / "generator" / "vae", dtype=torch.float32)
    return decode(autoencoder, encode(autoencoder, images))


def _generated(prompts: Sequence[str]) -> np.ndarray:
    """Images [n, 64, 64, 3] of the text-to-image model; what it draws wrongly stays, as a wrong caption."""
    generator = PartBuilder(load_config()).part("generator", Generator)
    images: list[Image] = []
    for start in trange(0, len(prompts), _BATCH, desc="generating", leave=False, disable=None):
        block = prompts[start : start + _BATCH]
        images += generator.generate(block, range(start, start + len(block)))
    return np.stack(images)


def _patches(covered: Tensor) -> Tensor:
    """Maps [batch, 32, 32] as one row of cells for each of the vision model's patches."""
    side = int(VISION["patch_size"]) // 2
    blocks = covered.unfold(1, side, side).unfold(2, side, side)
    return blocks.reshape(len(covered), -1, side * side)
