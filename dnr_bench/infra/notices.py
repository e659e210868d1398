"""What people are told once in a run, however often it happens."""

from __future__ import annotations

import logging

_log = logging.getLogger(__name__)


class Notices:
    """Warnings of one run."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def warn(self, message: str) -> None:
        """Tell the user, unless that was told before."""
        if message not in self._told:
            _log.warning("%s", message)
        self._told.add(message)
