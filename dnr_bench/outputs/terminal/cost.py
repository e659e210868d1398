"""What a run would take, in the terminal."""

from __future__ import annotations

from rich.console import Console

from dnr_bench.outputs.terminal.console import duration, number_column, plain_table, text_column
from dnr_bench.results.costs import Estimate, Size

_UNITS = ((2**40, "TB"), (2**30, "GB"), (2**20, "MB"))


def print_cost(size: Size, found: Estimate, workers: int, dollars_per_hour: float, console: Console) -> None:
    """The stages that take longest, and hours, dollars and disk of all."""
    drawn = f"{size.images_per_concept} images per concept"
    table = plain_table(f"{size.neurons:,} neurons, {size.images:,} probing images, {drawn}")
    text_column(table, "stage")
    for name in ("time", "disk"):
        number_column(table, name)
    stages = dict.fromkeys([*found.seconds, *found.disk])
    for stage in sorted(stages, key=lambda stage: -found.seconds.get(stage, 0.0)):
        seconds, size_on_disk = found.seconds.get(stage, 0.0), found.disk.get(stage, 0.0)
        if seconds >= 1 or size_on_disk >= 2**20:
            table.add_row(stage, duration(seconds) if seconds >= 1 else "", _bytes(size_on_disk))
    console.print(table)
    if found.unclear:
        console.print(
            f"[yellow]{', '.join(found.unclear)} took as long in the small runs as in the large ones, so the"
            " estimate is too low: a larger run tells what their items take[/yellow]"
        )
    by = f" by {workers} workers" if workers > 1 else ""
    hired = found.hours * workers * dollars_per_hour
    money = f", {hired + found.dollars:,.2f} dollars" if hired + found.dollars else ""
    on_disk = sum(found.disk.values())
    disk = f", {_bytes(on_disk)} on disk" if on_disk else ""
    console.print(f"about {duration(found.hours * 3600)}{by}{money}{disk}")


def _bytes(n: float) -> str:
    for unit, name in _UNITS:
        if n >= unit:
            return f"{n / unit:,.1f} {name}"
    return "less than 1 MB" if n else ""
