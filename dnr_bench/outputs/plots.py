"""Plots of tables, for people who would rather look."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from dnr_bench.data.scorecard import Plot
from dnr_bench.results.comparison import is_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Bars of a plot, and characters of a bar's or a line's name.
_MOST_BARS, _LONGEST_NAME = 60, 40


def draw(rows: Sequence[Mapping[str, Any]], plot: Plot) -> Figure:
    """`y` over `x` with a line for each series, and its interval where the rows have y.low and y.high.

    Numbers on the x axis stand in order and to scale, other values side by side. Rows without y are left out.
    """
    shown = [row for row in rows if row.get(plot.x) is not None and row.get(plot.y) is not None]
    names = [", ".join(_drawable(row.get(column)) for column in plot.series) for row in shown]
    if plot.kind == "bars":
        return _bars(shown, names, plot)
    if plot.kind == "frontier":
        return _frontier(shown, names, plot)
    to_scale = all(is_number(row[plot.x]) for row in shown)
    figure = _figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name in dict.fromkeys(names):
        of_series = [row for row, of_row in zip(shown, names, strict=True) if of_row == name]
        if to_scale:
            of_series.sort(key=lambda row: float(row[plot.x]))
        _draw_series(axes, of_series, plot, name, to_scale)
    axes.set(xlabel=plot.x, ylabel=plot.y, title=plot.title)
    lowest, highest = axes.dataLim.intervaly
    if lowest >= 0 and highest <= 1:  # plots of shares look alike only on one scale
        axes.set_ylim(-0.02, 1.02)
    if not to_scale:
        axes.tick_params(axis="x", rotation=30)
        for label in axes.get_xticklabels():
            label.set_horizontalalignment("right")
    if plot.series and shown:
        axes.legend(
            title=", ".join(plot.series), fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5)
        )
    axes.grid(alpha=0.3)
    return figure


def _figure(**settings: Any) -> Figure:
    from matplotlib.figure import Figure

    return Figure(**settings)


def _drawable(value: object) -> str:
    """Text of others for a plot: short, no formula ($), and shown in a legend (which hides names with _)."""
    text = str(value)
    text = text if len(text) <= _LONGEST_NAME else f"{text[:_LONGEST_NAME]} ..."
    return re.sub("^_", "\u2009_", text.replace("$", r"\$"))


def _bars(rows: Sequence[Mapping[str, Any]], of_rows: Sequence[str], plot: Plot) -> Figure:
    """A bar per row with its interval, the largest first, with a color for each of the rows' names."""
    highest = sorted(range(len(rows)), key=lambda place: -float(rows[place][plot.y]))[:_MOST_BARS]
    shown, names = [rows[place] for place in highest], [of_rows[place] for place in highest]
    figure = _figure(figsize=(max(7, 0.28 * len(shown)), 5), layout="constrained")
    axes = figure.subplots()
    for number, name in enumerate(sorted(set(names))):
        places = [place for place, of_row in enumerate(names) if of_row == name]
        heights = [float(shown[place][plot.y]) for place in places]
        axes.bar(places, heights, color=f"C{number % 10}", label=name)
    for place, row in enumerate(shown):
        low, high = row.get(f"{plot.y}.low"), row.get(f"{plot.y}.high")
        if low is not None and high is not None:
            axes.plot([place, place], [float(low), float(high)], color="black", alpha=0.6)
    ticks = [_drawable(row[plot.x]) for row in shown]
    axes.set_xticks(range(len(shown)), ticks, rotation=60, ha="right", fontsize="small")
    left_out = f" ({len(shown)} of {len(rows)})" if len(shown) < len(rows) else ""
    axes.set(ylabel=plot.y, title=f"{plot.title}{left_out}")
    if plot.series and shown:
        axes.legend(title=", ".join(plot.series), fontsize="small")
    axes.grid(alpha=0.3, axis="y")
    return figure


def _frontier(rows: Sequence[Mapping[str, Any]], names: Sequence[str], plot: Plot) -> Figure:
    """A point per row with its name and interval; those that nothing cheaper reaches are joined."""
    figure = _figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    costs = np.asarray([float(row[plot.x]) for row in rows])
    values = np.asarray([float(row[plot.y]) for row in rows])
    known = [(row.get(f"{plot.y}.low"), row.get(f"{plot.y}.high")) for row in rows]
    for x, (low, high) in zip(costs, known, strict=True):
        if low is not None and high is not None:
            axes.plot([x, x], [float(low), float(high)], color="C0", alpha=0.35)
    best = on_frontier(costs, values)
    axes.plot(costs[best], values[best], drawstyle="steps-post", color="C1", alpha=0.8, zorder=0)
    axes.scatter(costs, values, color=["C1" if place in best else "C0" for place in range(len(rows))])
    for x, y, name in zip(costs, values, names, strict=True):
        axes.annotate(_drawable(name), (x, y), xytext=(5, 3), textcoords="offset points", fontsize="small")
    if len(costs) and costs.min() > 0:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("{x:g}")
    axes.set(xlabel=plot.x, ylabel=plot.y, title=plot.title)
    axes.margins(x=0.15)
    axes.grid(alpha=0.3)
    return figure


def on_frontier(costs: Float[np.ndarray, " rows"], values: Float[np.ndarray, " rows"]) -> list[int]:
    """The rows that none is better than at the same cost or a lower one, the cheapest first."""
    found: list[int] = []
    for place in np.lexsort((-values, costs)):
        if np.isnan(values[place]) or np.isnan(costs[place]):
            continue
        if not found or values[place] > values[found[-1]]:
            found.append(int(place))
    return found


def _draw_series(
    axes: Axes, rows: Sequence[Mapping[str, Any]], plot: Plot, name: str, to_scale: bool
) -> None:
    xs: list[Any] = [float(row[plot.x]) if to_scale else str(row[plot.x]) for row in rows]
    ys = np.asarray([row[plot.y] for row in rows], float)
    bounds = [(row.get(f"{plot.y}.low"), row.get(f"{plot.y}.high")) for row in rows]
    if any(low is None or high is None for low, high in bounds):
        axes.plot(xs, ys, marker="o", label=name)
        return
    lows, highs = np.asarray(bounds, float).T
    if to_scale and len(xs) > 1:
        (line,) = axes.plot(xs, ys, marker="o", label=name)
        axes.fill_between(xs, lows, highs, alpha=0.15, color=line.get_color())
    else:
        style = ":" if plot.series else "none"
        axes.errorbar(xs, ys, [ys - lows, highs - ys], marker="o", linestyle=style, capsize=3, label=name)
