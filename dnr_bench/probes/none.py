"""A probing set without images."""

from __future__ import annotations

from dnr_bench.data.images import ProbeSet


class NoImages:
    """Nothing to probe with."""

    def load(self, seed: int) -> ProbeSet:
        """An empty set."""
        return ProbeSet(name="none", ids=[], images=[])
