"""Files of others: only regular ones are read, none that is too large; a pipe or device would never end."""

from __future__ import annotations

import os
import stat
from pathlib import Path

#: The largest file that is read into memory as a whole: images and tables are far smaller.
MOST_BYTES = 2**30


def read_regular(path: Path | str) -> bytes:
    """The content of a file.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger than `MOST_BYTES`.
    """
    check_regular(path)
    # should it have become a pipe since, this does not wait for a writer
    with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise _too_large()
    return content


def check_regular(path: Path | str) -> None:
    """Raises `OSError` for what is no regular file, or larger than `MOST_BYTES`."""
    found = Path(path).stat()
    if stat.S_ISDIR(found.st_mode):
        raise OSError("it is a folder")
    if not stat.S_ISREG(found.st_mode):
        raise OSError("it is no regular file")
    if found.st_size > MOST_BYTES:
        raise _too_large()


def _too_large() -> OSError:
    return OSError(f"it is larger than {MOST_BYTES >> 20} MB")
