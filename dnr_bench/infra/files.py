"""Files: of others only regular ones are read, none that is too large; ours are whole or not there."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dnr_bench.infra.errors import RunError

#: The largest file that is read into memory as a whole: images and tables are far smaller.
MOST_BYTES = 2**30


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """The name to write a file under, which becomes `path` when all is written; folders are made.

    A process that is killed leaves what was there before.

    Raises:
        RunError: the file cannot be written.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error


def read_regular(path: Path | str) -> bytes:
    """The content of somebody's file: a pipe or a device would never end.

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
