"""Results of runs that were never made, through the types of those that are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dnr_bench.data.stages import StageCount
from dnr_bench.results.schema import MetricResult, NeuronResult, ProbeResult, RunResult

_METRIC = MetricResult(
    mean=0.0, low=0.0, high=0.0, n=0, unscored=0, chance=0.25, oracle=1.0, normalized=None, group="planted",
    unit="share", headline=True, part_of="", higher_is_better=True, signed=False, judge="",
    item_kind="neuron", controls={}, items={},
)  # fmt: skip


def metric(**changed: Any) -> MetricResult:
    """A metric, all but these fields of no interest."""
    return MetricResult(**{**vars(_METRIC), **changed})


def neuron(unit: int, labels: Sequence[str], values: Mapping[str, float], **changed: Any) -> NeuronResult:
    """A neuron of layer `l` with labels and values."""
    fields: dict[str, Any] = {
        "layer": "l", "unit": unit, "labels": tuple(labels), "score": None, "candidates": (),
        "exemplars": (), "captions": (), "truth": None, "unscored": None, "refinement": None,
        "values": values,
    }  # fmt: skip
    return NeuronResult(**{**fields, **changed})


def result(neurons: Sequence[NeuronResult], metrics: Mapping[str, MetricResult]) -> RunResult:
    """A run of these neurons that took two seconds and drew three concepts."""
    return RunResult(
        metrics=metrics,
        neurons=tuple(neurons),
        tables=(),
        curves={},
        stages={"images": StageCount(1.0, 0, 3)},
        usage={},
        probe=ProbeResult("none", "", 0, ()),
        config={},
        versions={"dnr-bench": "0", "git": "unknown"},
        seconds=2.0,
    )
