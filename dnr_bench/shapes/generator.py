"""Draws a prompt with the shapes world's own renderer: an oracle for the text-to-image model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dnr_bench.data.images import Image
from dnr_bench.shapes import render
from dnr_bench.shapes.concepts import parse


class RendererGenerator:
    """Every attribute that the prompt names is right; all that it leaves open is random."""

    fingerprint = "renderer"

    def generate(
        self, prompts: Sequence[str], seeds: Sequence[int], numbers: Sequence[int] | None = None
    ) -> list[Image]:
        """One 64x64 image for each prompt and seed."""
        images = []
        for prompt, seed in zip(prompts, seeds, strict=True):
            scene = render.sample_scene(np.random.default_rng(seed), parse(prompt))
            images.append(render.render(scene))
        return images
