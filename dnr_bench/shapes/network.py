"""The network of the embedded target and of the judge: residual, with a layer of concept units."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock


class ShapesResNet(nn.Module):
    """layer1..layer4 of residual blocks, `concepts` (1x1 convolution and ReLU), `fc` on its pooled units."""

    def __init__(self, n_concepts: int, n_classes: int, widths: tuple[int, int, int, int]) -> None:
        super().__init__()
        w1, w2, w3, w4 = widths
        self.stem = nn.Sequential(
            nn.Conv2d(3, w1, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(w1), nn.ReLU()
        )
        self.layer1 = _stage(w1, w1, stride=1)
        self.layer2 = _stage(w1, w2, stride=2)
        self.layer3 = _stage(w2, w3, stride=2)
        self.layer4 = _stage(w3, w4, stride=1)
        self.concepts = ConceptLayer(w4, n_concepts)
        self.fc = nn.Linear(n_concepts, n_classes)

    def forward(self, images: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch classes"]:
        """Class logits of normalized images."""
        logits: Tensor = self.fc(self.pooled_concepts(images))
        return logits

    def pooled_concepts(self, images: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch concepts"]:
        """The spatial mean of each concept unit."""
        return torch.mean(self.concepts(self.features(images)), dim=(2, 3))

    def features(self, images: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch c h w"]:
        """What the concept units read."""
        found: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(images)))))
        return found


class ConceptLayer(nn.Module):
    """One 1x1 convolution and a ReLU: a map for each planted unit."""

    def __init__(self, n_in: int, n_concepts: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(n_in, n_concepts, 1)

    def forward(self, features: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch concepts h w"]:
        """The units' maps."""
        return torch.relu(self.convolution(features))


def load_network(directory: Path) -> tuple[ShapesResNet, Mapping[str, Any]]:
    """The network kept in model.safetensors, in float32, and what config.json says about it."""
    config = json.loads((directory / "config.json").read_text())
    model = ShapesResNet(config["n_concepts"], config["n_classes"], tuple(config["widths"]))
    weights = load_file(directory / "model.safetensors")
    model.load_state_dict({name: w.float() if w.is_floating_point() else w for name, w in weights.items()})
    return model, config


def _stage(n_in: int, n_out: int, stride: int) -> BasicBlock:
    shortcut = None
    if stride != 1 or n_in != n_out:
        shortcut = nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))
    return BasicBlock(n_in, n_out, stride, shortcut)
