"""The terminal, text of others in it, and the block that ends a command."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from dnr_bench.infra.shipped import CONF
from dnr_bench.infra.text_files import printable

if TYPE_CHECKING:
    from dnr_bench.outputs.mlflow.places import Place

_WIDTH_OF_LOGS = 120
#: From this width on there is room for columns that others can do without.
WIDE = 100


def console() -> Console:
    """The terminal; where output goes to a file or a pipe, wide enough for the tables."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(width=_WIDTH_OF_LOGS, highlight=False)


def escaped(text: str) -> str:
    """Text of models, files and users for the terminal: neither markup nor control characters."""
    return escape(printable(text))


def plain_table(title: str) -> Table:
    """A table without columns. A column of text gives way where a table is too wide, one of numbers never."""
    return Table(
        title=Text(printable(title), no_wrap=True, overflow="ignore"),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )


def text_column(table: Table, name: str) -> None:
    """Add a column whose words are broken rather than cut."""
    table.add_column(escaped(name), overflow="fold")


def number_column(table: Table, name: str) -> None:
    """Add a column that keeps all its digits."""
    table.add_column(escaped(name), justify="right", no_wrap=True)


def duration(seconds: float) -> str:
    """For people: "12.3 s", "2 min 13 s", "3 h 5 min"."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    minutes, hours = whole // 60, whole // 3600
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min {whole % 60} s"


def time_left(seconds: float, done: int, total: int) -> str:
    """For people, if the others take as long as those that are done, which took so many seconds."""
    left = seconds / done * (total - done)
    if left <= 0:
        return ""
    return f"about {left:.0f} s left" if left < 100 else f"about {left / 60:.0f} min left"


def listed(choices: Mapping[str, str]) -> str:
    """The member of each config group, as one would type them."""
    return escaped(", ".join(f"{group}={member}" for group, member in choices.items()))


def short_path(path: Path) -> str:
    """Relative to the working directory where it lies within."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def print_page(page: Path, of: str, console: Console) -> None:
    """Where the pictures are; `of`: what they show."""
    console.print(f"{of}\n  [bold]{escaped(short_path(page))}[/bold]", soft_wrap=True)


def print_link(place: Place, run_id: str, experiment_id: str, console: Console, jobs: bool = False) -> None:
    """Where to look at the run; `jobs`: of a multirun at charts of its jobs."""
    page = f"#/experiments/{experiment_id}/runs"
    page += f"?viewStateShareKey={run_id}&compareRunsMode=CHART&" if jobs else f"/{run_id}?"
    page += "workflowType=machine_learning"  # else the UI opens among evaluations of language models
    what, are = ("these runs", "are") if jobs else ("this run", "is")
    if place.is_server:
        address = f"{place.shown.rstrip('/')}/{page}"
        console.print(f"MLflow shows {what} at\n  [bold]{escaped(address)}[/bold]", soft_wrap=True)
        return
    mlruns = place.mlruns
    usual = mlruns == Path("mlruns")
    command = "make ui" if usual and _in_checkout() else "dnr-bench ui" if usual else f"dnr-bench ui {mlruns}"
    if place.database != mlruns.resolve() / "mlflow.db":
        command = f"MLFLOW_TRACKING_URI={place.shown} dnr-bench ui"
    console.print(f"[bold]{escaped(command)}[/bold] opens MLflow; {what} {are} then at", soft_wrap=True)
    console.print(f"  http://127.0.0.1:5000/{page}", soft_wrap=True)


def print_next(purpose: str, words: Sequence[str], console: Console) -> None:
    """What to try next: a command with these words."""
    typed = shlex.join(words)
    command = f"make run ARGS={shlex.quote(typed)}" if _in_checkout() else f"dnr-bench {typed}"
    console.print(f"Next, {purpose}:\n  [bold]{escaped(command)}[/bold]", soft_wrap=True)


def _in_checkout() -> bool:
    return CONF.parent == Path.cwd()
