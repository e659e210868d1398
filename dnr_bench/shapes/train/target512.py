"""Trains the embedded target with 512 planted units of more kinds."""

from __future__ import annotations

from pathlib import Path

from dnr_bench.shapes.planted import planted_units_512
from dnr_bench.shapes.train.data import draw_scenes
from dnr_bench.shapes.train.target import train_units
from dnr_bench.shapes.world import SEEN_SHAPES


def train(
    directory: Path, work: Path, *, n_images: int = 80_000, steps: int = 4_000, start: Path | None = None
) -> None:
    """As the target of 64 units.

    Half of the images show the concept of some unit, since uniform ones show the rarest about 50 times only.
    """
    units = planted_units_512()
    concepts = [unit.truth for unit in units if unit.concept]
    data = draw_scenes("train", n_images, SEEN_SHAPES, zoomed_share=0.2, asked_for=concepts)
    train_units(units, (32, 64, 128, 256), data, directory, work / "target512.pt", steps, start)
