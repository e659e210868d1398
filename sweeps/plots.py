"""Plots of studies: Optuna's own, the response of a metric to settings, and the front of quality and cost."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna.visualization import matplotlib as plots

from dnr_bench.statistics.intervals import Estimate
from sweeps.results import Rows

#: Costs that differ by more than this factor are drawn on a logarithmic scale.
_WIDE = 10
#: Columns of a response that are no settings.
_NO_SETTINGS = ("scorer", "mean", "low", "high", "papers", "best")


def search_figures(study: optuna.Study, aims: Sequence[str]) -> dict[str, Figure]:
    """History, importance, slices and contours of the best trial's settings; or the Pareto front."""
    if len(study.directions) > 1:
        return _drawn({"pareto": lambda: plots.plot_pareto_front(study, target_names=list(aims))})
    searched = list(study.best_trial.params)
    numbers = [name for name in searched if not isinstance(study.best_trial.params[name], str)]
    wanted: dict[str, Callable[[], Any]] = {"history": lambda: plots.plot_optimization_history(study)}
    if len(study.trials) > 1:
        wanted["slice"] = lambda: plots.plot_slice(study, params=searched)
    if len(searched) > 1 and _differ(study):
        wanted["importance"] = lambda: plots.plot_param_importances(study, params=searched)
    if len(numbers) > 1:
        wanted["contour"] = lambda: plots.plot_contour(study, params=numbers)
    return _drawn(wanted)


def response_figure(scorer: str, metric: str, response: Rows) -> Figure:
    """The metric over a scoring function's settings, with its interval, the papers' setting and the best.

    Of two settings a surface, and beside it curves over the first one.
    """
    names = [name for name in response[0] if name not in _NO_SETTINGS]
    figure = Figure(figsize=(12, 4.5) if len(names) > 1 else (7, 4.5), layout="constrained")
    figure.suptitle(f"{scorer}: {metric} of all neurons")
    if len(names) == 1:
        axes = figure.subplots()
        _curve(axes, names[0], response, "95% interval")
        _marks(axes, names[0], response)
        axes.set_ylabel(metric)
        axes.legend(fontsize="small")
        return figure
    left, right = figure.subplots(1, 2)
    _surface(figure, left, names, response)
    held = {kind: {row[names[1]] for row in response if row[kind]} for kind in ("papers", "best")}
    for value in sorted(held["papers"] | held["best"], key=lambda v: float(str(v))):
        kinds = " and ".join(kind for kind, values in held.items() if value in values)
        rows = [row for row in response if row[names[1]] == value]
        _curve(right, names[0], rows, f"{names[1]}={_told(value)} ({kinds})")
    _marks(right, names[0], response)
    right.set_ylabel(metric)
    right.legend(fontsize="small")
    return figure


def front_figure(metric: str, cost: str, trials: Rows, front: Rows, given: tuple[float, Estimate]) -> Figure:
    """Quality over cost: all trials on the neurons that choose, the best trade-offs on held-out neurons."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    xs = [float(str(row[cost])) for row in trials]
    axes.scatter(xs, [float(str(row[metric])) for row in trials], s=18, color="0.65", label="trials (tuning)")
    shown = sorted(front, key=lambda row: float(str(row[cost])))
    qualities = [row["quality"] for row in shown]
    _points(
        axes, [float(str(row[cost])) for row in shown], qualities, "best trade-offs, held-out", "C0", "-o"
    )
    _points(axes, [given[0]], [given[1]], "settings as given, held-out", "C3", "*")
    every = [*xs, given[0]]
    if min(every) > 0 and max(every) > _WIDE * min(every):
        axes.set_xscale("log")
    axes.set(xlabel=cost, ylabel=metric, title="Quality and cost, with 95% intervals of held-out items")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="lower right")
    return figure


def _points(
    axes: Axes, xs: Sequence[float], found: Sequence[object], label: str, color: str, style: str
) -> None:
    of_all = [value for value in found if isinstance(value, Estimate)]
    means, lows, highs = np.asarray([(v.mean, v.low, v.high) for v in of_all], float).T
    bars = np.nan_to_num(np.stack([means - lows, highs - means]))
    axes.errorbar(xs, means, np.maximum(bars, 0), fmt=style, color=color, capsize=3, label=label)


def _curve(axes: Axes, name: str, rows: Rows, label: str) -> None:
    ordered = sorted(rows, key=lambda row: float(str(row[name])))
    xs, means, lows, highs = (
        [float(str(row[key])) for row in ordered] for key in (name, "mean", "low", "high")
    )
    (line,) = axes.plot(xs, means, marker="o", markersize=4, label=label)
    axes.fill_between(xs, lows, highs, alpha=0.15, color=line.get_color())
    axes.set_xlabel(name)
    axes.grid(alpha=0.3)


def _marks(axes: Axes, name: str, rows: Rows) -> None:
    for row in rows:
        if row["papers"]:
            axes.axvline(float(str(row[name])), linestyle="--", color="0.4", label="papers")
        if row["best"]:
            best = float(str(row[name])), float(str(row["mean"]))
            axes.plot(*best, marker="*", markersize=14, color="C3", linestyle="none", label="best")


def _surface(figure: Figure, axes: Axes, names: Sequence[str], rows: Rows) -> None:
    xs, ys = (sorted({row[name] for row in rows}, key=lambda v: float(str(v))) for name in names)
    heights = np.full((len(ys), len(xs)), np.nan)
    for row in rows:
        heights[ys.index(row[names[1]]), xs.index(row[names[0]])] = float(str(row["mean"]))
    image = axes.imshow(heights, origin="lower", aspect="auto", cmap="viridis")
    figure.colorbar(image, ax=axes)
    for kind, marker in (("papers", "o"), ("best", "*")):
        for row in (row for row in rows if row[kind]):
            place = xs.index(row[names[0]]), ys.index(row[names[1]])
            style: dict[str, Any] = {"markersize": 13, "mfc": "none", "mec": "red", "mew": 2, "ls": ""}
            axes.plot(*place, marker=marker, label=kind, **style)
    axes.set(xlabel=names[0], ylabel=names[1])
    _ticks(axes, xs, ys)
    axes.legend(fontsize="small", loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)


def _ticks(axes: Axes, xs: Sequence[object], ys: Sequence[object]) -> None:
    for values, set_ticks in ((xs, axes.set_xticks), (ys, axes.set_yticks)):
        places = range(0, len(values), max(len(values) // 10, 1))
        set_ticks(list(places), [_told(values[place]) for place in places])


def _told(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _differ(study: optuna.Study) -> bool:
    """Whether the trials differ in quality: else no setting is more important than another."""
    values = [trial.value for trial in study.trials if trial.value is not None]
    return len(values) > 1 and float(np.ptp(values)) > 0


def _drawn(wanted: Mapping[str, Callable[[], Any]]) -> dict[str, Figure]:
    with warnings.catch_warnings(), rc_context():  # Optuna changes the style of all plots to come
        warnings.simplefilter("ignore")  # it calls its matplotlib plots experimental
        return {name: np.ravel(draw())[0].figure for name, draw in wanted.items()}
