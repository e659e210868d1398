"""Trains the embedded target: classes by cross-entropy, planted units by regression onto presence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dnr_bench.shapes.network import ShapesResNet
from dnr_bench.shapes.render import SIZE, Scene
from dnr_bench.shapes.train.data import draw_scenes
from dnr_bench.shapes.train.loop import fit, half_weights
from dnr_bench.shapes.world import CLASSES, SEEN_SHAPES, class_index, planted_units

CONFIG = {"n_concepts": 64, "n_classes": len(CLASSES), "widths": [32, 64, 128, 128]}
MEAN, STD = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]


def train(
    directory: Path, work: Path, *, n_images: int = 60_000, steps: int = 2_000, start: Path | None = None
) -> None:
    """Train and write `model.safetensors` (float16), `config.json` and `planted.json`."""
    torch.manual_seed(0)
    data = draw_scenes("train", n_images, SEEN_SHAPES, zoomed_share=0.2)
    labels = torch.tensor([class_index(scene) for scene in data.scenes])
    presence = torch.tensor([presence_of(scene) for scene in data.scenes])
    trained = torch.tensor([unit.kind not in ("dead", "random") for unit in planted_units()])
    model = ShapesResNet(CONFIG["n_concepts"], CONFIG["n_classes"], tuple(CONFIG["widths"]))  # type: ignore[arg-type]

    rates = presence.mean(dim=0)
    rarity = (0.1 / rates.clamp(min=1e-6)).clamp(1, 20)  # else the rarest concepts are never learnt

    def loss_of(indices: np.ndarray) -> Tensor:
        _, images = data.batch(indices.tolist())
        pooled = model.pooled_concepts((images - 0.5) / 0.25)
        shown = presence[indices]
        error = ((pooled - shown) ** 2 * (1 + shown * (rarity - 1)))[:, trained].mean()
        return 30 * error + nn.functional.cross_entropy(model.fc(pooled).float(), labels[indices])

    with torch.no_grad():
        _bias(model).fill_(0.1)  # no unit starts where its ReLU has no gradient
    fix_untrained_units(model)
    fit(model, loss_of, n_images, work / "target.pt", steps=steps, batch_size=128, learning_rate=3e-3,
        after_step=lambda: fix_untrained_units(model), start=start)  # fmt: skip
    write(model, directory)


def presence_of(scene: Scene) -> list[float]:
    """1.0 for each planted unit whose concept the scene shows, else 0.0."""
    return [float(unit.truth.matches(scene.attributes)) for unit in planted_units()]


@torch.no_grad()
def fix_untrained_units(model: ShapesResNet) -> None:
    """Dead units can never fire; random units keep the random directions they are given here."""
    weight, bias = model.concepts.convolution.weight, _bias(model)
    rng = np.random.default_rng(5)
    for planted in planted_units():
        if planted.kind == "dead":
            weight[planted.unit] = 0.0
            bias[planted.unit] = -1.0
        elif planted.kind == "random":
            direction = rng.normal(size=tuple(weight[planted.unit].shape)) * 0.2
            weight[planted.unit] = torch.from_numpy(direction)
            bias[planted.unit] = 0.0


def write(model: ShapesResNet, directory: Path) -> None:
    """The checkpoint directory that `targets.shapes` reads."""
    directory.mkdir(parents=True, exist_ok=True)
    save_file(half_weights(model), directory / "model.safetensors")
    config = {**CONFIG, "input_size": SIZE, "mean": MEAN, "std": STD, "classes": list(CLASSES)}
    (directory / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    truth = [
        {"layer": "concepts", "unit": planted.unit, "kind": planted.kind, "concept": planted.concept}
        for planted in planted_units()
    ]
    lines = ",\n ".join(json.dumps(unit) for unit in truth)
    (directory / "planted.json").write_text(f"[\n {lines}\n]\n")


def _bias(model: ShapesResNet) -> Tensor:
    bias = model.concepts.convolution.bias
    assert bias is not None
    return bias
