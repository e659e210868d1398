"""What the stages of a run took."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class StageCount:
    """What a stage took so far: wall seconds without those of stages within it, items found and computed."""

    seconds: float = 0.0
    hits: int = 0
    misses: int = 0
