"""Describe-and-Dissect, Describe-and-Refine, CLEAR: what the settings of the run make of the pipeline."""

from __future__ import annotations

from collections.abc import Sequence

from dnr_bench.pipeline import DescribeAndDissect
from dnr_bench.types import Explanation, Layer, Neuron


class Describe:
    """Runs the pipeline."""

    has_candidates = True

    def check(self, neurons: Sequence[Neuron], layers: Sequence[Layer]) -> None:
        """Every neuron can be described."""

    def explain(self, neurons: Sequence[Neuron], pipeline: DescribeAndDissect) -> list[Explanation]:
        """One explanation a neuron, in order."""
        return pipeline.explain(neurons)
