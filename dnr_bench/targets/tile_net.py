"""The network of Tile2Vec: a ResNet-18 of five stages (Jean et al. 2019)."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

_WIDTHS = (64, 128, 256, 512)
_STRIDES = (1, 2, 2, 2, 2)


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
