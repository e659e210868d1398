"""Trains the embedded sparse autoencoder: top-k codes of the vectors that the wide target's units read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dnr_bench.infra.shipped import CHECKPOINTS
from dnr_bench.shapes.latents import K, matched_latents
from dnr_bench.shapes.network import load_network
from dnr_bench.shapes.planted import planted_units_512
from dnr_bench.shapes.train.data import Scenes, draw_scenes
from dnr_bench.shapes.train.loop import fit
from dnr_bench.shapes.world import SEEN_SHAPES
from dnr_bench.targets.latents import highest_only
from dnr_bench.targets.sae import FILE

LATENTS = 512
#: Vectors that are kept of each image, of its 64 places.
_PLACES = 16
#: A latent that was 0 in this many batches is dead, and learns what the others leave over.
_DEAD_AFTER = 200


class TopK(nn.Module):
    """W_enc, b_enc, W_dec, b_dec; the directions of W_dec have length 1."""

    silent: Tensor

    def __init__(self, inputs: int, latents: int, mean: Tensor) -> None:
        super().__init__()
        directions = nn.functional.normalize(torch.randn(latents, inputs), dim=1)
        self.W_dec = nn.Parameter(directions)
        self.W_enc = nn.Parameter(directions.T.clone())
        self.b_enc, self.b_dec = nn.Parameter(torch.zeros(latents)), nn.Parameter(mean.clone())
        self.register_buffer("silent", torch.zeros(latents))

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """What the codes stand for, and the codes before the highest are chosen."""
        before = torch.relu((vectors - self.b_dec) @ self.W_enc + self.b_enc)
        return highest_only(before, K) @ self.W_dec + self.b_dec, before

    @torch.no_grad()
    def tidy(self) -> None:
        """Give the directions length 1 again."""
        self.W_dec.data = nn.functional.normalize(self.W_dec.data, dim=1)


def train(
    directory: Path, work: Path, *, n_images: int = 40_000, steps: int = 6_000, start: Path | None = None
) -> None:
    """Train on vectors of training images, and write `sae.safetensors` (float16) and `planted.json`.

    Half of the images show the concept of some unit of the target, as in its own training.
    """
    torch.manual_seed(0)
    concepts = [unit.truth for unit in planted_units_512() if unit.concept]
    data = draw_scenes("train", n_images, SEEN_SHAPES, zoomed_share=0.2, asked_for=concepts)
    vectors = torch.cat(list(_vectors(data)))
    scale = float(vectors.float().norm(dim=1).mean())
    model = TopK(vectors.shape[1], LATENTS, vectors.float().mean(dim=0) / scale)

    def loss_of(indices: np.ndarray) -> Tensor:
        loss: Tensor
        with torch.autocast("cpu", enabled=False):
            batch = vectors[torch.from_numpy(indices)].float() / scale
            found, before = model(batch)
            error = batch - found
            with torch.no_grad():
                used = (highest_only(before, K) > 0).any(dim=0)
                model.silent = torch.where(used, 0, model.silent + 1)
            dead = model.silent > _DEAD_AFTER
            loss = error.square().sum(dim=1).mean()
            if dead.any():
                rest = highest_only(before * dead, 2 * K) @ model.W_dec
                loss = loss + (error.detach() - rest).square().sum(dim=1).mean() / 32
        return loss

    fit(model, loss_of, len(vectors), work / "sae.pt", steps=steps, batch_size=2048, learning_rate=2e-3,
        weight_decay=0.0, after_step=model.tidy, average=0.99, start=start)  # fmt: skip
    model.tidy()
    directory.mkdir(parents=True, exist_ok=True)
    weights = {name: value for name, value in model.state_dict().items() if name != "silent"}
    weights["b_dec"], weights["b_enc"] = weights["b_dec"] * scale, weights["b_enc"] * scale
    save_file({name: value.half().contiguous() for name, value in weights.items()}, directory / FILE)
    write_truth(directory)


def write_truth(directory: Path) -> None:
    """What the trained latents detect."""
    lines = ",\n ".join(json.dumps(latent) for latent in matched_latents(directory))
    (directory / "planted.json").write_text(f"[\n {lines}\n]\n")


@torch.inference_mode()
def _vectors(data: Scenes) -> Iterator[Tensor]:
    """Vectors of the layer at random places of each image, in float16."""
    model, config = load_network(CHECKPOINTS / "target512")
    model.eval()
    rng = np.random.default_rng(9)
    for first in range(0, len(data.scenes), 256):
        _, images = data.batch(range(first, min(first + 256, len(data.scenes))))
        found = model.features((images - config["mean"][0]) / config["std"][0]).flatten(2).movedim(1, 2)
        places = torch.from_numpy(rng.permuted(np.tile(np.arange(found.shape[1]), (len(found), 1)), axis=1))
        chosen = places[:, :_PLACES, None].expand(-1, -1, found.shape[2])
        yield found.gather(1, chosen).flatten(0, 1).half()
