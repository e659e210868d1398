"""Results as MLflow's metrics, parameters, tables and notes."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from mlflow.entities import Metric, Param

from dnr_bench.results.schema import NeuronResult, RunResult, finite

_MAX_PARAM = 500


def metrics_of(result: RunResult) -> list[Metric]:
    """The numbers that runs are compared by; values per neuron are in the table."""
    flat: dict[str, float | None] = {"seconds": result.seconds}
    for name, metric in result.metrics.items():
        flat[name] = metric.mean
        if not metric.part_of:  # those have their intervals in the table
            flat |= {
                f"{name}.low": metric.low,
                f"{name}.high": metric.high,
                f"{name}.chance": metric.chance,
                f"{name}.normalized": metric.normalized,
            }
    for name, stage in result.stages.items():
        flat |= {
            f"stages.{name}.seconds": stage.seconds,
            f"stages.{name}.hits": float(stage.hits),
            f"stages.{name}.misses": float(stage.misses),
        }
    flat["neurons.unscored"] = float(len(result.unscored))
    found = metric_entries(flat)
    for name, curve in result.curves.items():
        now = int(time.time() * 1000)
        found += [Metric(name, value, now, step) for step, value in enumerate(curve, start=1)]
    return found


def metric_entries(values: Mapping[str, float | None]) -> list[Metric]:
    """Metrics of these values, without those that are not finite."""
    now = int(time.time() * 1000)
    return [Metric(key, finite(value), now, 0) for key, value in values.items() if finite(value) is not None]


def param_entries(values: Mapping[str, object]) -> list[Param]:
    """Parameters of these values, cut to the length that MLflow shows."""
    return [Param(key, str(value)[:_MAX_PARAM]) for key, value in values.items()]


def params_of(config: Mapping[str, Any], prefix: str = "") -> list[Param]:
    """The settings of a run, nested ones by dotted names."""
    params = []
    for key, value in config.items():
        if isinstance(value, Mapping):
            params += params_of(value, f"{prefix}{key}.")
        elif key != "_target_":  # the member of its group is a tag, and config.yaml has everything
            text = value if isinstance(value, str) else json.dumps(value)
            params += param_entries({f"{prefix}{key}": text})
    return params


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
        "label": "; ".join(neuron.labels),
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
