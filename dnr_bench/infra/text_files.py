"""Text files of the user's, and text of others for people to read."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path

from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.files import read_regular

#: Characters of a wrong value that a message shows.
_SHOWN = 200


def read_text(path: str | Path, key: str) -> str:
    """The text of a UTF-8 file, with or without a mark at its start; `key`: the setting that names it."""
    try:
        text = read_regular(path).decode("utf-8-sig")
    except (OSError, ValueError) as error:  # a path may hold a zero byte
        raise UsageError(f"{key}={str(path)!r} cannot be read: {error}") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def printable(text: str) -> str:
    """Text of others without control characters, which could rewrite what a terminal shows."""
    return "".join(
        letter if letter.isprintable() or letter == "\n" else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def shortened(value: object) -> str:
    """A value for a message, which a wrong one of any length must not fill."""
    shown = repr(value)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]} ..."


def spoken_name(name: str) -> str:
    """A data set's name as people write it: "traffic_light", "/a/apartment_building/outdoor" (Places365)."""
    return re.sub(r"^/\w/", "", name).replace("_", " ").replace("/", " ")


def csv_rows(text: str, columns: Sequence[str], where: str) -> Iterator[tuple[int, Mapping[str, str] | None]]:
    """The line number of each row and its cells in these columns, spaces collapsed; blank rows are left out.

    None in place of the cells where a row has more values than there are columns. Raises `UsageError` for
    missing columns and for what is no CSV; `where` names the file, as path='labels.csv'.
    """
    reader = csv.DictReader(StringIO(text, newline=""), skipinitialspace=True)
    try:
        reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
        if missing := [name for name in columns if name not in reader.fieldnames]:
            raise UsageError(f"{where} lacks the columns {missing}; it has {list(reader.fieldnames)}")
        for row in reader:
            if None in row:
                yield reader.line_num, None
                continue
            cells = {name: " ".join((row[name] or "").split()) for name in columns}
            if any(cells.values()):
                yield reader.line_num, cells
    except csv.Error as error:
        raise UsageError(f"{where}, line {reader.line_num}: {error}") from error


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; nothing where there are no rows."""
    if not rows:
        return ""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(markdown_text(cell) for cell in line)} |" for line in lines) + "\n\n"


def markdown_text(text: str) -> str:
    """Text of a model's or a user's, which must not end a cell or become HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("\n", " ")
