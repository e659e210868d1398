"""What captions of the exemplars say for a candidate, before any image of it is drawn."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from dnr_bench.data.evidence import Evidence, Need


class Prior:
    """The support of each candidate by the captions of the exemplars (`CaptionContrast`).

    It sees what images of a concept cannot show: that a label is too specific, since captions of other
    exemplars lack its words, or too common. 0 where nothing is known of any candidate (no captions).
    """

    needs: frozenset[Need] = frozenset({"prior"})

    def score(self, evidence: Evidence) -> Float[np.ndarray, " candidates"]:
        """One score per candidate."""
        assert evidence.prior is not None, "the pipeline fills it for scorers that need it"
        return np.where(np.isnan(evidence.prior), 0.0, evidence.prior)
