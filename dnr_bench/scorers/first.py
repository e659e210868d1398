"""No concept selection: the summarizer's first candidate stays first (an ablation of step 3)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from dnr_bench.data.evidence import NOTHING_MORE, Evidence


class First:
    """Minus the candidate's place in the list."""

    needs = NOTHING_MORE

    def score(self, evidence: Evidence) -> Float[np.ndarray, " candidates"]:
        """One score per candidate; those without an image have none, as with every scorer."""
        drawn = ~np.isnan(evidence.activations).all(axis=1)
        return np.where(drawn, -np.arange(len(drawn), dtype=float), np.nan)
