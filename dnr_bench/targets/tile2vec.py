"""Tile2Vec's ResNet-18 (Jean et al. 2019; DnD 5): an embedding of aerial tiles."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dnr_bench.infra.devices import Dtype
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.ranges import check_range
from dnr_bench.targets.checkpoints import load_weights, read_weights
from dnr_bench.targets.hooked import HookedTarget
from dnr_bench.targets.preprocessing import Preprocessing

_WIDTHS = (64, 128, 256, 512)
_STRIDES = (1, 2, 2, 2, 2)


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
    weights = read_weights(checkpoint, TileNet(3, 512, infrared))
    where = f"checkpoint={checkpoint!r}"
    for name in ("conv1.weight", "layer5.1.conv2.weight"):
        if name not in weights:
            raise UsageError(f"{where} is no Tile2Vec network: it has no {name}")
    check_range(1, 8192, size=size)
    if size < 32:
        raise UsageError(f"size={size} must be at least 32: the network halves it four times")
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


class TileNet(nn.Module):
    """layer1..layer5 of two residual blocks each; the embedding is the spatial mean of layer5."""

    def __init__(self, bands: int, dimensions: int, infrared: Literal["mean", "zero"]) -> None:
        super().__init__()
        self.bands, self.infrared = bands, infrared
        self.conv1 = nn.Conv2d(bands, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        widths = (64, *_WIDTHS, dimensions)
        for number, stride in enumerate(_STRIDES, start=1):
            before, after = widths[number - 1], widths[number]
            setattr(
                self, f"layer{number}", nn.Sequential(_Block(before, after, stride), _Block(after, after, 1))
            )

    def forward(self, images: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch dimensions"]:
        """The embedding of RGB tiles."""
        if self.bands == 4:
            fourth = images.mean(dim=1, keepdim=True)
            images = torch.cat(
                [images, fourth if self.infrared == "mean" else torch.zeros_like(fourth)], dim=1
            )
        features = F.relu(self.bn1(self.conv1(images)))
        for number in range(1, len(_STRIDES) + 1):
            features = getattr(self, f"layer{number}")(features)
        return features.mean(dim=(2, 3))


class _Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.shortcut = nn.Sequential()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, after, 1, stride=stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, x: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(inner + self.shortcut(x))
