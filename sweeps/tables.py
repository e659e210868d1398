"""What a study found, as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from dnr_bench.outputs.terminal.console import escaped, number_column, plain_table, text_column
from dnr_bench.statistics.intervals import Estimate
from dnr_bench.statistics.paired import Difference
from sweeps.results import Row, Rows

_P = "with 95% intervals; P: sign flips over neurons, adjusted (Holm)"


def held_out_table(title: str, rows: Sequence[Row], curve: Rows, tuning_quality: float) -> Table:
    """The study's settings beside settings as given; `curve`: the quality within budgets of images."""
    table = _table(title, "settings", "mean (95%)", "gain of the study", "P")
    for row in rows:
        table.add_row(escaped(row.name), interval(row.quality), *_gain(row.gain, row.p_holm))
    for point in curve:
        quality = f"[bold]{point['quality']:.3f}[/bold] ({point['low']:.2f}–{point['high']:.2f})"
        table.add_row(f"[dim]at most {point['budget']:.0f} images per neuron[/dim]", quality, "", "")
    chosen = f"settings are chosen on other neurons, where they reach {tuning_quality:.3f}"
    return _captioned(table, f"{chosen}; {_P}")


def tuned_table(title: str, rows: Sequence[Row]) -> Table:
    """Each scoring function with the papers' settings and with its own tuned ones; two lines each."""
    table = _table(title, "tuned settings", "papers'", "tuned", "gain", "P")
    for row in rows:
        name, _, settings = row.name.partition(" ")
        given = f"{row.given.mean:.3f}\n[dim]({_ends(row.given)})[/dim]" if row.given else ""
        tuned = f"[bold]{row.quality.mean:.3f}[/bold]\n[dim]({_ends(row.quality)})[/dim]"
        gain, p = _gain(row.gain, row.p_holm)
        table.add_row(
            escaped(f"{name}\n{settings}"), given, tuned, gain.replace(" (", "\n[dim](") + "[/dim]", p
        )
    return _captioned(table, f"tuned on other neurons than those that judge; {_P}")


def front_table(title: str, rows: Rows, costs: Sequence[str]) -> Table:
    """The best trade-offs of quality and costs, on held-out neurons."""
    names = [cost.partition(".")[2].replace("_per_neuron", "") for cost in costs]
    table = _table(title, "trial", *names, "mean (95%)", "gain over as given", "P")
    for row in rows:
        gain = row["gain"]
        quality = row["quality"]
        assert isinstance(quality, Estimate)
        assert gain is None or isinstance(gain, Difference)
        table.add_row(
            str(row["name"]),
            *(f"{row[cost]:.4g}" for cost in costs),
            interval(quality),
            *_gain(gain, float(str(row["p_holm"]))),
        )
    return _captioned(table, f"per neuron; quality on neurons that did not choose; {_P}")


def interval(found: Estimate) -> str:
    """A mean with its interval."""
    return f"[bold]{found.mean:.3f}[/bold] ({_ends(found)})"


def _ends(found: Estimate) -> str:
    return f"{found.low:.2f}–{found.high:.2f}"


def _table(title: str, *columns: str) -> Table:
    table = plain_table(title)
    text_column(table, columns[0])
    for name in columns[1:]:
        number_column(table, name)
    return table


def _captioned(table: Table, caption: str) -> Table:
    table.caption = caption
    return table


def _gain(gain: Difference | None, p: float) -> tuple[str, str]:
    if gain is None:
        return "", ""
    return f"{gain.mean:+.3f} ({gain.low:+.2f} to {gain.high:+.2f})", f"{p:.3f}".rstrip("0").rstrip(".")
