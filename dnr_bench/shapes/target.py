"""The embedded target network of the shapes world."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from dnr_bench.infra.devices import Dtype
from dnr_bench.infra.fingerprints import checkpoint_path
from dnr_bench.targets.noted import noted
from dnr_bench.targets.preprocessing import Preprocessing

if TYPE_CHECKING:
    from dnr_bench.targets.hooked import HookedTarget


def hooked_network(
    checkpoint: str,
    pool: Literal["mean", "max"] = "mean",
    device: str = "cpu",
    batch_size: int = 128,
    random_weights: bool = False,
    seed: int = 0,
    dtype: Dtype = "float32",
) -> HookedTarget:
    """The network in `checkpoint` (config.json and model.safetensors).

    `random_weights`: as it would be before any training, by `seed`; what methods say of such a network is
    what they say of nothing.
    """
    path = checkpoint_path(checkpoint)
    from dnr_bench.shapes.network import load_network
    from dnr_bench.targets.hooked import HookedTarget, untrain

    model, config = load_network(path)
    if random_weights:
        untrain(model, seed)
    size = config["input_size"]
    preprocessing = Preprocessing(size, size, config["mean"], config["std"], squash=True)
    return HookedTarget(
        model,
        preprocessing,
        names={"fc": config["classes"]},
        pool=pool,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
    )


#: The same as part of a config, where it is loaded when it is to run.
shapes_target = noted(hooked_network)
