"""What all pages share: the environment of the templates, numbers for people, whole files."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from dnr_bench.infra.files import writing
from dnr_bench.outputs.terminal.console import duration

#: Pieces of a page that are written together.
_TOGETHER = 100


@contextmanager
def without_page(name: str) -> Iterator[None]:
    """Turn an error in making a page into a warning; the result is kept."""
    try:
        yield
    except Exception as error:
        print(f"warning: there is no {name}: {type(error).__name__}: {error}", file=sys.stderr)


def _number(value: object) -> str:
    """Short for people; a dash where there is nothing."""
    if not isinstance(value, int | float) or not np.isfinite(value):
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.3g}" if abs(value) >= 10 else f"{value:.3f}"


def page_template(name: str) -> Template:
    """A template in which text of others is escaped, and a missing value is an error."""
    environment = Environment(
        loader=PackageLoader("dnr_bench.outputs.pages"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"number": _number, "duration": duration}
    return environment.get_template(name)


def write_page(path: Path, template: str, **content: object) -> Path:
    """Fill a template; the file is whole or not there."""
    page = page_template(template).stream(**content)
    page.enable_buffering(_TOGETHER)
    with writing(path) as partial:
        page.dump(str(partial), encoding="utf-8", errors="replace")
    return path
