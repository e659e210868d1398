"""What a rating study found, in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from dnr_bench.outputs.terminal.console import escaped, number_column, plain_table, text_column
from dnr_bench.outputs.terminal.run import interval
from dnr_bench.results.ratings.result import RatingResult
from dnr_bench.statistics.paired import SURE


def print_ratings(result: RatingResult, out: Console) -> None:
    """Methods, their differences, agreement, and what was left out."""
    rows = {table.name: table.rows for table in result.tables}
    unit = "rating" if result.asks == "ratings" else "correlation"
    table = plain_table(
        f"{result.title}: {'mean ratings' if unit == 'rating' else 'correlations over all images'}"
    )
    text_column(table, "method")
    for name in (unit, "95% interval", *(("best", "strength") if unit == "rating" else ()), "n"):
        number_column(table, name)
    strength = {row["method"]: row["strength"] for row in rows.get("strengths", ())}
    for row in rows["ratings" if unit == "rating" else "correlations"]:
        cells = [_number(row[unit]), interval(_float(row[f"{unit}.low"]), _float(row[f"{unit}.high"]))]
        if unit == "rating":
            cells += [_share(row["best"]), _number(strength.get(row["method"]))]
        n = row["ratings" if unit == "rating" else "neurons"]
        table.add_row(escaped(str(row["method"])), *cells, str(n))
    out.print(table)
    _print_differences(rows.get(f"{unit}_differences", ()), out)
    for row in rows.get("agreement", ()):
        if row["method"] == "all":
            ends = interval(_float(row["low"]), _float(row["high"]))
            out.print(f"raters agree: Krippendorff's alpha {_number(row['alpha'])} ({ends}), ordinal\n")
    _print_left_out(rows.get("left_out", ()), out)
    for row in rows.get("without_label", ()):
        out.print(f"{escaped(str(row['method']))} has no label for {row['neurons']} neurons: not rated\n")
    if result.pages[0]:
        out.print(f"{result.pages[1]} of {result.pages[0]} pages are answered\n")


def _print_differences(rows: Any, out: Console) -> None:
    if not rows:
        return
    table = plain_table("Differences, paired")
    text_column(table, "from")
    text_column(table, "to")
    for name in ("difference", "95% interval", "P (Holm)"):
        number_column(table, name)
    for row in rows:
        cells = [
            f"{_float(row['difference']):+.2f}",
            interval(_float(row["low"]), _float(row["high"])),
            shown_row(row)["p_holm"],
        ]
        style = "bold" if _float(row["p_holm"]) < SURE else ""
        table.add_row(escaped(str(row["before"])), escaped(str(row["after"])), *cells, style=style)
    out.print(table)


def _print_left_out(rows: Any, out: Console) -> None:
    if not rows:
        return
    table = plain_table("Left out")
    for name in ("rater or file", "why"):
        text_column(table, name)
    number_column(table, "items")
    for row in rows:
        table.add_row(escaped(str(row["rater"])), escaped(str(row["reason"])), str(row["items"] or "all"))
    out.print(table)


def _float(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _number(value: Any) -> str:
    found = _float(value)
    return "–" if found != found else f"{found:.2f}"


def _share(value: Any) -> str:
    found = _float(value)
    return "–" if found != found else f"{found:.0%}"


def shown_row(row: Mapping[str, Any]) -> dict[str, str]:
    """A row of a table for people: numbers short, a dash where there is none."""
    return {
        name: str(value) if isinstance(value, int | str) else _long(value, is_p=name in ("p", "p_holm"))
        for name, value in row.items()
    }


def _long(value: Any, *, is_p: bool) -> str:
    found = _float(value)
    return "–" if found != found else "< .001" if is_p and found < 0.001 else f"{found:.3f}"
