"""No captions."""

from __future__ import annotations

from collections.abc import Sequence

from dnr_bench.data.images import View
from dnr_bench.infra.digests import fingerprint_of


class NoCaptions:
    """Has nothing to say of any image."""

    fingerprint = fingerprint_of("no_captions")

    def caption(self, views: Sequence[View]) -> list[str]:
        """An empty caption per view."""
        return [""] * len(views)
