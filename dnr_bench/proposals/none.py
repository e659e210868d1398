"""No candidates from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from dnr_bench.data.neuron import Layer, Neuron


class NoProposals:
    """Candidates come from captions and the user alone."""

    def concepts(self, neurons: Sequence[Neuron], layers: Sequence[Layer]) -> dict[Neuron, tuple[str, ...]]:
        """No concept for any neuron."""
        return {}
