"""Scores from the likeness of generated images and exemplars in CLIP's eyes."""

from __future__ import annotations

import numpy as np
import scipy
from jaxtyping import Float

from dnr_bench.data.evidence import NOTHING_MORE, Evidence
from dnr_bench.scorers.ranking import positive_count, row_means
from dnr_bench.scorers.ranks import TopKSquaredRank


class ImageProducts:
    """The mean cosine of the exemplars and the candidate's `t` most activating images (DnD A.1.4)."""

    needs = NOTHING_MORE

    def __init__(self, t: int) -> None:
        self.t = positive_count("t", t)

    def score(self, evidence: Evidence) -> Float[np.ndarray, " candidates"]:
        """One score per candidate."""
        order = np.argsort(-evidence.activations, axis=1, kind="stable")[:, : self.t]
        return row_means(np.take_along_axis(evidence.image_image, order, axis=1))


class TopKSquaredImageProducts:
    """(N + 1 - rank by top-k squared) times image products (DnD 3.4; the default of DnD).

    With `as_printed` the first factor is N - rank and negative products count, as in the paper; then the
    last candidate scores 0 whatever its images show.
    """

    needs = NOTHING_MORE

    def __init__(self, beta: int, t: int, as_printed: bool) -> None:
        self.topk_squared, self.image_products = TopKSquaredRank(beta), ImageProducts(t)
        self.as_printed = as_printed

    def score(self, evidence: Evidence) -> Float[np.ndarray, " candidates"]:
        """One score per candidate."""
        products = self.image_products.score(evidence)
        ranks = scipy.stats.rankdata(-self.topk_squared.score(evidence), nan_policy="omit")
        n = int(np.sum(~np.isnan(ranks)))
        if not self.as_printed:
            n, products = n + 1, np.maximum(products, 0)
        scores: np.ndarray = (n - ranks) * products
        return scores
