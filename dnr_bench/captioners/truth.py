"""The data set's own captions: an oracle that shows what a perfect captioner would change."""

from __future__ import annotations

from collections.abc import Sequence

from dnr_bench.errors import UsageError
from dnr_bench.types import View


class TruthCaptioner:
    """Returns the caption of the image that a view shows, also for its crops."""

    fingerprint = "truth-1"

    def caption(self, views: Sequence[View]) -> list[str]:
        """One caption a view, in order; a probing set without captions raises `UsageError`."""
        captions = [view.caption for view in views if view.caption is not None]
        if len(captions) != len(views):
            raise UsageError("captioner=truth needs a probing set that has captions; this one has none")
        return captions
