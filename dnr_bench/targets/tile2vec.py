"""Tile2Vec's ResNet-18 (Jean et al. 2019; DnD 5): an embedding of aerial tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from dnr_bench.infra.devices import Dtype
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.ranges import check_range
from dnr_bench.targets.noted import noted
from dnr_bench.targets.preprocessing import Preprocessing

if TYPE_CHECKING:
    from dnr_bench.targets.hooked import HookedTarget


@noted
def tile2vec_target(
    checkpoint: str,
    infrared: Literal["mean", "zero"],
    size: int,
    pool: Literal["mean", "max"],
    device: str,
    dtype: Dtype,
    batch_size: int,
) -> HookedTarget:
    """A checkpoint of the authors' network, for tiles of three or four bands in 0..1, `size` pixels a side.

    infrared: what a network of four bands sees in the fourth, since images of candidate concepts (and all
    pictures that people look at) have none: the mean of the other three, or nothing.
    """
    check_range(1, 8192, size=size)
    if size < 32:
        raise UsageError(f"size={size} must be at least 32: the network halves it four times")
    from dnr_bench.targets.checkpoints import load_weights, read_weights
    from dnr_bench.targets.hooked import HookedTarget
    from dnr_bench.targets.tile_net import TileNet

    weights = read_weights(checkpoint, TileNet(3, 512, infrared))
    where = f"checkpoint={checkpoint!r}"
    for name in ("conv1.weight", "layer5.1.conv2.weight"):
        if name not in weights:
            raise UsageError(f"{where} is no Tile2Vec network: it has no {name}")
    bands, dimensions = weights["conv1.weight"].shape[1], weights["layer5.1.conv2.weight"].shape[0]
    if bands not in (3, 4):
        raise UsageError(
            f"{where} takes {bands} bands; here are images of three, and a fourth can be made up"
        )
    model = TileNet(bands, dimensions, infrared)
    load_weights(model, weights, where)
    plain = Preprocessing(size, size, mean=[0.0] * 3, std=[1.0] * 3, squash=True)
    return HookedTarget(
        model,
        plain,
        pool=pool,
        identity={"infrared": infrared},
        device=device,
        dtype=dtype,
        batch_size=batch_size,
    )
