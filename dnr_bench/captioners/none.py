"""No captions."""

from __future__ import annotations

from collections.abc import Sequence

from dnr_bench.data.images import View


class NoCaptions:
    """Has nothing to say of any image."""

    fingerprint = "none-1"

    def caption(self, views: Sequence[View]) -> list[str]:
        """An empty caption a view."""
        return [""] * len(views)
