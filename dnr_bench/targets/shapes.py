"""The embedded target network of the shapes world."""

from __future__ import annotations

from typing import Literal

from dnr_bench.fingerprints import checkpoint_path
from dnr_bench.shapes.network import load_network
from dnr_bench.targets.hooked import HookedTarget
from dnr_bench.targets.preprocessing import Preprocessing


def shapes_target(
    checkpoint: str,
    pool: Literal["mean", "max"],
    device: str,
    batch_size: int,
) -> HookedTarget:
    """The network in `checkpoint` (config.json and model.safetensors), computing in float32."""
    model, config = load_network(checkpoint_path(checkpoint))
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
