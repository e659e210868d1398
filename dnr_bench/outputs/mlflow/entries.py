"""Results as MLflow's metrics, parameters, tables and notes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow.entities import Metric, Param

from dnr_bench.data.stages import StageCount
from dnr_bench.infra.text_files import markdown_table
from dnr_bench.results.comparison import ComparisonRow, best_row, headlines_of, varied_names
from dnr_bench.results.schema import NeuronResult, RunResult, finite
from dnr_bench.results.settings import flat_settings
from dnr_bench.statistics.intervals import Estimate
from dnr_bench.statistics.paired import spread

_MAX_PARAM = 500
#: More headline metrics than people read side by side; the table has all.
_MOST_HEADLINES = 15
#: Of a comparison's description, which is a page of text.
_MOST_COLUMNS = 4


def metrics_of(result: RunResult) -> list[Metric]:
    """The numbers that runs are compared by, in sections named by what stands before the slash.

    planted/exact ...: the first headline metrics; interval/...: the ends of their intervals; cost/...:
    seconds, computed items, neurons without a label, what chat models took; stage/...: seconds of each stage.
    All other metrics, and values of neurons, are in tables.
    """
    headlines = [name for name, metric in result.metrics.items() if metric.headline][:_MOST_HEADLINES]
    flat: dict[str, float | None] = {section(name): result.metrics[name].mean for name in headlines}
    for name in headlines:
        flat |= {
            f"interval/{name}.low": result.metrics[name].low,
            f"interval/{name}.high": result.metrics[name].high,
        }
    found = [*metric_entries(flat | _costs(result)), *stage_metrics(result.stages)]
    for name, curve in result.curves.items():
        now = int(time.time() * 1000)
        found += [Metric(section(name), value, now, step) for step, value in enumerate(curve, start=1)]
    return found


def stage_metrics(stages: Mapping[str, StageCount]) -> list[Metric]:
    """The seconds of each stage, so far or in all."""
    return metric_entries({f"stage/{name}": count.seconds for name, count in stages.items()})


def section(name: str) -> str:
    """A metric's name for MLflow, which makes a section of what stands before the slash."""
    return name.replace(".", "/", 1)


def _costs(result: RunResult) -> dict[str, float | None]:
    costs: dict[str, float | None] = {
        "cost/seconds": result.seconds,
        "cost/computed_items": float(sum(stage.misses for stage in result.stages.values())),
        "cost/unscored_neurons": float(len(result.unscored)),
    }
    if result.usage:
        used = result.usage.values()
        costs["cost/questions"] = float(sum(part.asked for part in used))
        costs["cost/tokens"] = _total([n for p in used for n in (p.prompt_tokens, p.completion_tokens)])
        costs["cost/dollars"] = _total([part.dollars for part in used])
    return costs


def _total(values: Sequence[float | None]) -> float | None:
    """The sum; None where some are unknown."""
    known = [value for value in values if value is not None]
    return float(sum(known)) if len(known) == len(values) else None


def metric_entries(values: Mapping[str, float | None]) -> list[Metric]:
    """Metrics of these values, without those that are not finite."""
    now = int(time.time() * 1000)
    return [Metric(key, finite(value), now, 0) for key, value in values.items() if finite(value) is not None]


def param_entries(values: Mapping[str, object]) -> list[Param]:
    """Parameters of these values, cut to the length that MLflow shows."""
    return [Param(key, str(value)[:_MAX_PARAM]) for key, value in values.items()]


def params_of(config: Mapping[str, Any], choices: Mapping[str, str]) -> list[Param]:
    """The member of each config group under the group's name, and all settings by dotted names."""
    return param_entries({**choices, **flat_settings(config)})


def metric_rows(result: RunResult) -> list[dict[str, object]]:
    """One row per metric, as a table."""
    return [
        {
            "metric": name,
            "mean": metric.mean,
            "low": metric.low,
            "high": metric.high,
            "chance": metric.chance,
            "oracle": metric.oracle,
            "normalized": metric.normalized,
            "n": metric.n,
            "unscored": metric.unscored,
            **metric.controls,
        }
        for name, metric in result.metrics.items()
    ]


def neuron_row(neuron: NeuronResult) -> dict[str, object]:
    """One neuron as a row of a table."""
    best = neuron.candidates[0] if neuron.labels else None
    record = neuron.refinement
    return {
        "neuron": neuron.name,
        "label": neuron.answer,
        "truth": neuron.truth,
        "score": neuron.score,
        "origin": best.origin if best else None,
        "iteration": best.iteration if best else None,
        "runners_up": neuron.runners_up,
        "unscored": neuron.unscored,
        "refinement_progress": " ".join(f"{value:.3g}" for value in record.progress) if record else None,
        "refinement_stopped": record.stopped if record else None,
        **neuron.values,
    }


def metrics_of_best(rows: Sequence[ComparisonRow]) -> list[Metric]:
    """The headline metrics of the job with the best main one, which is the first."""
    names = headlines_of(rows)
    best = best_row(rows, names[0]) if names else None
    if best is None:
        return []
    return metric_entries(
        {section(name): best.metrics[name].mean for name in names[:_MOST_HEADLINES] if name in best.metrics}
    )


def comparison_note(rows: Sequence[ComparisonRow]) -> str:
    """The jobs side by side in Markdown: what varied, and the first headline metrics with intervals."""
    varied, metrics = varied_names(rows), headlines_of(rows)[:_MOST_COLUMNS]
    best = best_row(rows, metrics[0]) if metrics else None
    lines = []
    for row in rows:
        # what is set in code shows no escapes
        values = [f"`{row.overrides.get(name, '').replace('|', '/')}`" for name in varied]
        cells = [_estimate(row.metrics.get(name)) for name in metrics]
        if row is best:
            cells[0] = f"**{cells[0]}**"
        if row.status != "finished" and not row.metrics:
            cells = [row.status, *cells[1:]]
        lines.append([*values, *cells])
    note = "Mean over neurons and its 95% interval; bold: the best of the first metric."
    return f"{markdown_table([*varied, *metrics], lines)}{note}{_power(rows, metrics)}"


def _power(rows: Sequence[ComparisonRow], metrics: Sequence[str]) -> str:
    """The smallest differences to the first row that would be seen; empty where nothing is known."""
    told = []
    for name in metrics:
        found = [row.differences[name].detectable for row in rows if name in row.differences]
        if known := [value for value in found if finite(value) is not None]:
            told.append(f"{name} {spread(known)}")
    if not told:
        return ""
    return (
        " Smallest differences to the first row that so many neurons show in 80 of 100 single tests:"
        f" {', '.join(told)}."
    )


def _estimate(found: Estimate | None) -> str:
    if found is None or finite(found.mean) is None:
        return "–"
    known = finite(found.low) is not None
    return f"{found.mean:.3f}" + (f" ({found.low:.2f} to {found.high:.2f})" if known else "")


def note_of(result: RunResult, choices: Mapping[str, str]) -> str:
    """A few lines of Markdown about a run, for its page."""
    layers = ", ".join(dict.fromkeys(neuron.layer for neuron in result.neurons))
    lines = [
        f"{len(result.neurons)} neurons of {layers}, {len(result.unscored)} without a label; `report.html`"
        " shows them."
    ]
    for name, metric in result.metrics.items():
        if metric.headline:
            known = finite(metric.low) is not None
            interval = f" ({metric.low:.2f} to {metric.high:.2f})" if known else ""
            chance = "" if finite(metric.chance) is None else f", chance {metric.chance:.2f}"
            lines.append(f"- {name}: **{metric.mean:.3f}**{interval}{chance}")
    return "\n".join([*lines, "", " ".join(f"{group}={member}" for group, member in choices.items())])
