"""Plots of tables, for people who would rather look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from dnr_bench.types import Plot


def draw(rows: Sequence[Mapping[str, Any]], plot: Plot) -> Figure:
    """`y` over `x` with a line for each series, and its interval where the rows have y.low and y.high.

    Numbers on the x axis stand in order and to scale, other values side by side. Rows without y are left out.
    """
    shown = [row for row in rows if row.get(plot.y) is not None]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name in dict.fromkeys(row[plot.series] for row in shown):
        of_series = [row for row in shown if row[plot.series] == name]
        if all(_is_number(row[plot.x]) for row in shown):
            of_series.sort(key=lambda row: float(row[plot.x]))
            xs: list[Any] = [float(row[plot.x]) for row in of_series]
        else:
            xs = [str(row[plot.x]) for row in of_series]
        ys = [row[plot.y] for row in of_series]
        (line,) = axes.plot(xs, ys, marker="o", label=str(name))
        bounds = [(row.get(f"{plot.y}.low"), row.get(f"{plot.y}.high")) for row in of_series]
        if all(low is not None and high is not None for low, high in bounds):
            lows, highs = zip(*bounds, strict=True)
            axes.fill_between(xs, lows, highs, alpha=0.15, color=line.get_color())
    axes.set(xlabel=plot.x, ylabel=plot.y, title=plot.title)
    if plot.log_y:
        axes.set_yscale("log")
    if not all(_is_number(row[plot.x]) for row in shown):
        axes.tick_params(axis="x", rotation=30)
    axes.legend(title=plot.series, fontsize="small")
    axes.grid(alpha=0.3)
    return figure


def _is_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return False
    return True
