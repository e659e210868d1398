"""What evaluators are given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dnr_bench.parts import PoolScorer, Target
from dnr_bench.types import Explanation


@dataclass(frozen=True)
class EvaluationContext:
    """A run's explanations and what is needed to judge them.

    `embed_texts` gives CLIP unit vectors [texts, dim]; `score_pools` scores any concepts for neurons.
    """

    explanations: Sequence[Explanation]
    target: Target
    embed_texts: Callable[[Sequence[str]], np.ndarray]
    score_pools: PoolScorer
    seed: int
