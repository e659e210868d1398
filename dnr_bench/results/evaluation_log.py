"""A run as an evaluation log of Inspect (version 2 of its JSON format), which its viewer and others read.

A neuron is a sample: the captions of its exemplars are the input, its label is the answer, its truth the
target, its value of each metric a score.
"""

from __future__ import annotations

from datetime import timedelta

from dnr_bench.results.records import Record, Row
from dnr_bench.results.schema import MetricResult, NeuronResult, finite
from dnr_bench.results.settings import told_settings


def evaluation_log(record: Record) -> Row:
    """The log as plain values."""
    result, names = record.result, [neuron.name for neuron in record.result.neurons]
    started = record.finished - timedelta(seconds=result.seconds)
    digest, model = record.digest[:22], _model(record)
    labeled = len(names) - len(result.unscored)
    return {
        "version": 2,
        "status": "success",
        "eval": {
            "eval_id": digest,
            "run_id": digest,
            "task_id": digest,
            "created": started.isoformat(),
            "task": "dnr_bench",
            "task_version": 0,
            "task_args": told_settings(result.config),
            "dataset": {"name": result.probe.name, "samples": len(names), "sample_ids": names},
            "model": model,
            "config": {},
            "packages": dict(result.versions),
        },
        "plan": {"name": record.name, "steps": [], "config": {}},
        "results": {
            "total_samples": len(names),
            "completed_samples": labeled,
            "scores": [_score(name, metric) for name, metric in result.metrics.items()],
        },
        "stats": {
            "started_at": started.isoformat(),
            "completed_at": record.finished.isoformat(),
            "model_usage": {},
        },
        "samples": [_sample(neuron, model) for neuron in result.neurons],
    }


def _model(record: Record) -> str:
    """The method, and the scorer where it uses one, stand where other logs have a model."""
    choices = record.job.choices
    method = choices.get("method", "describe")
    return f"{method}/{choices.get('scorer', 'unknown')}" if method == "describe" else f"dnr_bench/{method}"


def _score(name: str, metric: MetricResult) -> Row:
    values = {"mean": metric.mean, "low": metric.low, "high": metric.high, "chance": metric.chance}
    return {
        "name": name,
        "scorer": name,
        "params": {},
        "scored_samples": metric.n,
        "unscored_samples": metric.unscored,
        "metrics": {
            key: {"name": key, "value": value, "params": {}}
            for key, value in values.items()
            if finite(value) is not None
        },
    }


def _sample(neuron: NeuronResult, model: str) -> Row:
    label = neuron.answer
    answer = {"role": "assistant", "content": label}
    return {
        "id": neuron.name,
        "epoch": 1,
        "input": "\n".join(neuron.captions) or neuron.name,
        "target": neuron.truth or "",
        "messages": [],
        "output": {"model": model, "choices": [{"message": answer, "stop_reason": "stop"}]},
        "scores": {
            name: {"value": value, "answer": label}
            for name, value in neuron.values.items()
            if finite(value) is not None
        },
        "metadata": {
            "score": finite(neuron.score),
            "candidates": [candidate.text for candidate in neuron.candidates],
            "unscored": neuron.unscored,
        },
    }
