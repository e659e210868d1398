"""Trains the embedded targets: classes by cross-entropy, planted units by regression onto their response."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from dnr_bench.shapes.network import ShapesResNet
from dnr_bench.shapes.planted import PlantedUnit, planted_units
from dnr_bench.shapes.render import SIZE, Scene
from dnr_bench.shapes.train.data import Scenes, draw_scenes
from dnr_bench.shapes.train.loop import fit, half_weights
from dnr_bench.shapes.world import CLASSES, SEEN_SHAPES, class_index

#: A unit that is to respond more than this must somewhere be as high before its ReLU.
SILENT = 0.3

MEAN, STD = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]


def train(
    directory: Path, work: Path, *, n_images: int = 60_000, steps: int = 2_000, start: Path | None = None
) -> None:
    """Train and write `model.safetensors` (float16), `config.json` and `planted.json`: 64 planted units."""
    data = draw_scenes("train", n_images, SEEN_SHAPES, zoomed_share=0.2)
    train_units(planted_units(), (32, 64, 128, 128), data, directory, work / "target.pt", steps, start)


def responses(units: Sequence[PlantedUnit], scenes: Sequence[Scene]) -> Float[np.ndarray, "scenes units"]:
    """The response of each unit to each scene; 0 for units that learn nothing."""
    of_attributes = {
        attributes: np.asarray([unit.drive(attributes) for unit in units], np.float32)
        for attributes in {scene.attributes for scene in scenes}
    }
    table = np.stack([of_attributes[scene.attributes] for scene in scenes])
    for unit in units:
        if unit.factor:
            table[:, unit.unit] = [unit.response(scene) for scene in scenes]
    return table


def train_units(
    units: Sequence[PlantedUnit],
    widths: tuple[int, int, int, int],
    data: Scenes,
    directory: Path,
    state: Path,
    steps: int,
    start: Path | None,
) -> None:
    """Train a network whose `concepts` layer has these units, and write its checkpoint directory."""
    torch.manual_seed(0)
    labels = torch.tensor([class_index(scene) for scene in data.scenes])
    wanted = torch.from_numpy(responses(units, data.scenes))
    trained = torch.tensor([unit.trained for unit in units])
    model = ShapesResNet(len(units), len(CLASSES), widths)

    rates = wanted.mean(dim=0)
    rarity = (0.1 / rates.clamp(min=1e-6)).clamp(1, 20)  # else the rarest concepts are never learnt

    def loss_of(indices: np.ndarray) -> Tensor:
        _, images = data.batch(indices.tolist())
        before = model.concepts.convolution(model.features((images - MEAN[0]) / STD[0]))
        pooled, shown = torch.relu(before).mean(dim=(2, 3)), wanted[indices]
        weights = 1 + shown * (rarity - 1)
        error = ((pooled - shown) ** 2 * weights)[:, trained].mean()
        # a ReLU that is silent everywhere on an image has no gradient of its own
        silent = torch.relu(SILENT - before.amax(dim=(2, 3))) * shown.gt(SILENT) * weights
        return 30 * (error + silent[:, trained].mean()) + nn.functional.cross_entropy(
            model.fc(pooled).float(), labels[indices]
        )

    with torch.no_grad():
        _bias(model).fill_(0.1)  # no unit starts where its ReLU has no gradient
    fix = partial(fix_untrained_units, model, units)
    fix()
    fit(model, loss_of, len(data.scenes), state, steps=steps, batch_size=128, learning_rate=3e-3,
        after_step=fix, start=start)  # fmt: skip
    write(model, units, widths, directory)


@torch.no_grad()
def fix_untrained_units(model: ShapesResNet, units: Sequence[PlantedUnit]) -> None:
    """Dead units can never fire; random units keep the random directions they are given here."""
    weight, bias = model.concepts.convolution.weight, _bias(model)
    rng = np.random.default_rng(5)
    for planted in units:
        if planted.kind == "dead":
            weight[planted.unit] = 0.0
            bias[planted.unit] = -1.0
        elif planted.kind == "random":
            direction = rng.normal(size=tuple(weight[planted.unit].shape)) * 0.2
            weight[planted.unit] = torch.from_numpy(direction)
            bias[planted.unit] = 0.0


def write(
    model: ShapesResNet, units: Sequence[PlantedUnit], widths: tuple[int, int, int, int], directory: Path
) -> None:
    """The checkpoint directory that `shapes.target` reads."""
    directory.mkdir(parents=True, exist_ok=True)
    save_file(half_weights(model), directory / "model.safetensors")
    config = {
        "n_concepts": len(units),
        "n_classes": len(CLASSES),
        "widths": widths,
        "input_size": SIZE,
        "mean": MEAN,
        "std": STD,
        "classes": CLASSES,
    }
    (directory / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    lines = ",\n ".join(json.dumps(unit.record()) for unit in units)
    (directory / "planted.json").write_text(f"[\n {lines}\n]\n")


def _bias(model: ShapesResNet) -> Tensor:
    bias = model.concepts.convolution.bias
    assert bias is not None
    return bias
