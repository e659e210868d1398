"""Judges which attributes an image shows; no part of the pipeline, so that it can check the generator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dnr_bench.data.images import Image
from dnr_bench.infra.fingerprints import checkpoint_path
from dnr_bench.shapes.concepts import FACETS
from dnr_bench.shapes.network import load_network

_BATCH = 256


class AttributeClassifier:
    """A small classifier with one answer for each facet."""

    def __init__(self, checkpoint: str) -> None:
        self.network, _ = load_network(checkpoint_path(checkpoint))
        self.network.eval()

    @torch.inference_mode()
    def attributes(self, images: Sequence[Image]) -> list[frozenset[str]]:
        """The color, texture, shape and background of each 64x64 image."""
        found: list[frozenset[str]] = []
        for start in range(0, len(images), _BATCH):
            pixels = torch.from_numpy(np.stack(images[start : start + _BATCH]))
            logits = by_facet(self.network((pixels.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25))
            answers = [
                [FACETS[facet][i] for i in of_facet.argmax(dim=1).tolist()]
                for facet, of_facet in logits.items()
            ]
            found += map(frozenset, zip(*answers, strict=True))
        return found


def by_facet(logits: Tensor) -> dict[str, Tensor]:
    """The columns of logits [batch, attributes] that belong to each facet."""
    parts = torch.split(logits, [len(values) for values in FACETS.values()], dim=1)
    return dict(zip(FACETS, parts, strict=True))
