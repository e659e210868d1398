"""Scores from real images: does the neuron fire where the concept is present, and only there?"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from dnr_bench.data.evidence import Evidence, Need


class ProbeCorrelation:
    """Pearson's r, over the probing set, of the concept's CLIP cosine and the neuron's activation.

    It alone sees that a label is too specific: images of "red star" excite a unit for "red" as much as
    images of "red" do, but the unit also fires on red circles.
    """

    needs: frozenset[Need] = frozenset({"probe_correlation"})

    def score(self, evidence: Evidence) -> Float[np.ndarray, " candidates"]:
        """One score per candidate."""
        assert evidence.probe_correlation is not None, "the pipeline fills it for scorers that need it"
        drawn = ~np.isnan(evidence.activations).all(axis=1)
        return np.where(drawn, evidence.probe_correlation, np.nan)
