"""The data set's own captions; where they are true, an oracle that shows what a perfect captioner changes."""

from __future__ import annotations

from collections.abc import Sequence

from dnr_bench.data.images import View
from dnr_bench.infra.digests import fingerprint_of
from dnr_bench.infra.errors import UsageError


class DatasetCaptioner:
    """Returns the caption of the image that a view shows, also for its crops."""

    fingerprint = fingerprint_of("dataset")
    quotes = "the data set"

    def caption(self, views: Sequence[View]) -> list[str]:
        """One caption per view, in order; an image without one raises `UsageError`."""
        captions = [view.caption for view in views if view.caption is not None]
        if len(captions) != len(views):
            raise UsageError(
                "the data set's captions are asked for (captioner=dataset), but it has none here"
            )
        return captions
