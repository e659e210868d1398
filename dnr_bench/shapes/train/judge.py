"""Trains the judge of generated images: one group of outputs for each facet, on rendered images only."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.transforms.v2.functional import gaussian_blur

from dnr_bench.shapes.attribute_classifier import by_facet
from dnr_bench.shapes.concepts import FACET_OF, FACETS
from dnr_bench.shapes.network import ShapesResNet
from dnr_bench.shapes.train.data import draw_scenes, turned
from dnr_bench.shapes.train.loop import fit, half_weights

CONFIG = {"n_concepts": 96, "n_classes": len(FACET_OF), "widths": [24, 48, 96, 96]}


def train(
    directory: Path, work: Path, *, n_images: int = 40_000, steps: int = 2_500, start: Path | None = None
) -> None:
    """Train and write `model.safetensors` (float16) and `config.json`."""
    torch.manual_seed(0)
    model = ShapesResNet(CONFIG["n_concepts"], CONFIG["n_classes"], tuple(CONFIG["widths"]))  # type: ignore[arg-type]
    data = draw_scenes("train", n_images, seed=1)  # scenes that no model of the pipeline has seen
    truth = data.truth()

    def loss_of(indices: np.ndarray) -> Tensor:
        rng = np.random.default_rng(indices[:4])
        _, images = data.batch(indices.tolist())
        images = turned(images, int(rng.integers(8)))
        if rng.random() < 0.5:  # generated images are smoother than rendered ones
            images = gaussian_blur(images, [5, 5], float(rng.uniform(0.3, 1.0)))
        logits = by_facet(model((images - 0.5) / 0.25).float())
        losses = [nn.functional.cross_entropy(logits[facet], truth[facet][indices]) for facet in FACETS]
        return torch.stack(losses).sum()

    fit(model, loss_of, n_images, work / "judge.pt", steps=steps, batch_size=96, learning_rate=3e-3,
        start=start)  # fmt: skip
    directory.mkdir(parents=True, exist_ok=True)
    save_file(half_weights(model), directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps({**CONFIG, "classes": list(FACET_OF)}, indent=1) + "\n")
