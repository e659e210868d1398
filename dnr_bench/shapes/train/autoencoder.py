"""Trains the autoencoder of the embedded text-to-image model: 64x64 images as 16x16 latents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from tqdm import trange

from dnr_bench.shapes.render import SIZE
from dnr_bench.shapes.train.data import draw_scenes, turned
from dnr_bench.shapes.train.loop import fit

_LEVELS = (16, 32, 64)  # channels at 64, 32 and 16 pixels: thin where the maps are large
CONFIG = {
    "down_block_types": ("DownEncoderBlock2D",) * len(_LEVELS),
    "up_block_types": ("UpDecoderBlock2D",) * len(_LEVELS),
    "block_out_channels": _LEVELS,
    "layers_per_block": 1,
    "latent_channels": 8,
    "norm_num_groups": 8,
    "sample_size": SIZE,
    "mid_block_add_attention": False,
}
_BATCH = 100
_KL_WEIGHT = 1e-3  # keeps latents near unit scale; light beside the images' own noise


def train(
    directory: Path, work: Path, *, n_images: int = 30_000, steps: int = 4_000, start: Path | None = None
) -> None:
    """Train and write an `AutoencoderKL` directory (float16) whose scaled latents have unit variance."""
    torch.manual_seed(0)
    model = AutoencoderKL(**CONFIG)
    data = draw_scenes("train", n_images)

    def loss_of(indices: np.ndarray) -> Tensor:
        _, images = data.batch(indices.tolist())
        images = turned(images, int(np.random.default_rng(indices[:4]).integers(8))) * 2 - 1
        posterior = model.encode(images).latent_dist
        decoded = model.decode(posterior.sample()).sample
        surplus = posterior.kl().mean() / posterior.mean[0].numel()
        loss: Tensor = (decoded.float() - images).abs().mean() + _KL_WEIGHT * surplus
        return loss

    fit(model, loss_of, n_images, work / "autoencoder.pt", steps=steps, batch_size=32, learning_rate=2e-3,
        weight_decay=0.0, start=start)  # fmt: skip
    latents = encode(model, data.images[:2000])
    model.register_to_config(scaling_factor=float(1 / latents.float().std()))
    model.half().save_pretrained(directory)


@torch.no_grad()
def encode(model: AutoencoderKL, images: np.ndarray) -> Tensor:
    """The posterior means [n, 8, 16, 16] of images [n, 64, 64, 3], unscaled, in float16."""
    parts = []
    for first in trange(0, len(images), _BATCH, desc="encoding", leave=False, disable=None):
        rows = torch.from_numpy(images[first : first + _BATCH]).permute(0, 3, 1, 2).float() / 127.5 - 1
        parts.append(model.encode(rows).latent_dist.mean.half())
    return torch.cat(parts)


@torch.no_grad()
def decode(model: AutoencoderKL, latents: Tensor) -> np.ndarray:
    """The images [n, 64, 64, 3] of unscaled latents."""
    parts = []
    for first in trange(0, len(latents), _BATCH, desc="decoding", leave=False, disable=None):
        pixels = model.decode(latents[first : first + _BATCH].float()).sample.clamp(-1, 1)
        parts.append(((pixels + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())
    return np.concatenate(parts)
