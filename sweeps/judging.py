"""How studies judge: runs with the metrics' evaluators alone, and neurons that have no say in a choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from omegaconf import DictConfig, OmegaConf

from dnr_bench.app.composition import load_config
from dnr_bench.app.configuration import build_run, evaluator_nodes
from dnr_bench.app.parts import PartBuilder
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.shipped import config_members
from dnr_bench.protocols import Scorer
from dnr_bench.statistics.paired import Records, ScoredItem
from sweeps.evidence import Case, cases_of, outcome
from sweeps.space import Value

T = TypeVar("T")


def judging(config: DictConfig, metrics: Sequence[str], judge: Mapping[str, Any], seed: int) -> DictConfig:
    """The settings of a run with the metrics' evaluators alone, for one seed.

    judge: settings of these evaluators, as far as they have them.

    Raises:
        UsageError: a metric is of none of the evaluators.
    """
    found, known = config.copy(), evaluator_nodes(config)
    nodes = {}
    for metric in metrics:
        name = metric.partition(".")[0]
        if name not in known:
            setting = "study.metric" if metric == metrics[0] else "study.costs"
            raise UsageError(
                f"{setting}={metric!r} is of no evaluator of these settings:"
                f" {', '.join(known) or 'there is none'}"
            )
        nodes[name] = known[name].copy()
        for key in judge.keys() & nodes[name].keys():
            nodes[name][key] = judge[key]
    found.seed, found.evaluator = seed, nodes
    return found


def with_evaluators(overrides: Sequence[str], metrics: Sequence[str]) -> list[str]:
    """The overrides of a run with those evaluators of the metrics that they do not choose themselves."""
    needed = dict.fromkeys(metric.partition(".")[0] for metric in metrics)
    chosen = [word for word in overrides if word.startswith("evaluator=")]
    listed = chosen[-1].partition("=")[2].strip("[] ").split(",") if chosen else []
    known = evaluator_nodes(load_config(*overrides, name="sweep")) if chosen else {}
    members = {path.stem for path in config_members("evaluator")}
    more = [name for name in needed if name not in known and name in members]
    names = [*(name.strip() for name in listed if name.strip()), *more]
    return [*(word for word in overrides if word not in chosen), f"evaluator=[{','.join(names)}]"]


def folds_of(items: Sequence[T], folds: int, seed: int) -> dict[T, int]:
    """The fold of each neuron (or name), whatever seed it is seen under; sizes differ by one at most."""
    unique = sorted(set(items))  # type: ignore[type-var]
    order = np.random.default_rng(seed).permutation(len(unique))
    return {unique[place]: number % folds for number, place in enumerate(order.tolist())}


def gathered(
    config: DictConfig, metric: str, judge: Mapping[str, Any], seeds: Sequence[int], folds: int
) -> list[Case]:
    """The evidence of all seeds, which scoring functions are searched on.

    Raises:
        UsageError: the settings refine, or there are fewer neurons than folds.
    """
    if config.refine.max_iterations:
        raise UsageError("studies of scoring functions score candidates once: they need refine=none")
    found: list[Case] = []
    for seed in seeds:
        found += cases_of(build_run(judging(config, [metric], judge, seed)), metric)
    if len({case.neuron for case in found}) < folds:
        raise UsageError(f"study.folds={folds}: there are fewer neurons that {metric} can judge")
    return found


def scorer_node(scorer: str, overrides: Sequence[str]) -> DictConfig:
    """The config of a scoring function with its own settings."""
    node = load_config(*overrides, f"scorer={scorer}", name="sweep").scorer
    assert isinstance(node, DictConfig)
    return node


def built_scorer(scorer: str, node: DictConfig, settings: Mapping[str, Value]) -> Scorer:
    """A scoring function with some settings of its own."""
    node = node.copy()
    for name, value in settings.items():
        OmegaConf.update(node, name, value)
    return PartBuilder(OmegaConf.create({"scorer": node})).build(node, Scorer, f"scorer={scorer}")


def answered(metric: str, cases: Sequence[Case], scorer: Scorer) -> Records:
    """The answers of a scoring function, as runs have neurons, so that they are compared as runs are."""
    found = outcome(cases, scorer)
    return {
        (case.seed, case.neuron): ScoredItem(
            str(case.neuron), [label] if label else [], {metric: float(quality)}
        )
        for case, quality, label in zip(cases, found.quality, found.labels, strict=True)
    }
