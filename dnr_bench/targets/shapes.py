"""The embedded target network of the shapes world."""

from __future__ import annotations

import json
from typing import Literal

from safetensors.torch import load_file

from dnr_bench.fingerprints import checkpoint_path
from dnr_bench.shapes.network import ShapesResNet
from dnr_bench.targets.hooked import HookedTarget
from dnr_bench.targets.preprocessing import Preprocessing


def shapes_target(
    checkpoint: str,
    pool: Literal["mean", "max"],
    device: str,
    batch_size: int,
) -> HookedTarget:
    """The network in `checkpoint` (config.json and model.safetensors), computing in float32."""
    path = checkpoint_path(checkpoint)
    config = json.loads((path / "config.json").read_text())
    model = ShapesResNet(config["n_concepts"], config["n_classes"], tuple(config["widths"]))
    model.load_state_dict({name: value.float() if value.is_floating_point() else value
                           for name, value in load_file(path / "model.safetensors").items()})  # fmt: skip
    size = config["input_size"]
    preprocessing = Preprocessing(size, size, config["mean"], config["std"], squash=True)
    return HookedTarget(
        model,
        preprocessing,
        names={"fc": config["classes"]},
        pool=pool,
        device=device,
        batch_size=batch_size,
    )
