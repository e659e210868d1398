"""Text files of the user's."""

from __future__ import annotations

from pathlib import Path

from dnr_bench.errors import UsageError


def read_text(path: str | Path, key: str) -> str:
    """The text of a UTF-8 file, with or without a mark at its start; `key`: the setting that names it."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{key}={str(path)!r} cannot be read: {error}") from error
