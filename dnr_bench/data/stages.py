"""Time and items of the stages of a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class StageCount:
    """The cost of a stage so far: wall seconds without those of inner stages, items found and computed."""

    seconds: float = 0.0
    hits: int = 0
    misses: int = 0
