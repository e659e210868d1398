"""All runs of the same neurons against all headline metrics, each tested against the best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dnr_bench.infra.digests import digest
from dnr_bench.results.comparison import (
    ComparisonRow,
    Job,
    best_row,
    first_metric,
    headlines_of,
    judged_apart,
    paired_records,
    pooled,
)
from dnr_bench.results.records import Record
from dnr_bench.results.schema import RunResult
from dnr_bench.results.settings import deciding_settings, flat_settings
from dnr_bench.statistics.intervals import Estimate
from dnr_bench.statistics.paired import SURE, difference, holm, spread

Verdict = Literal["best", "worse", "untested"]


@dataclass(frozen=True)
class Entry:
    """One setting, its seeds pooled.

    runs: the run of each seed. labeled: neurons with a label, of all `neurons`. best: metrics in which it is
    the best one, or not told apart from it. untested: metrics in which nothing pairs it with the best one.
    """

    name: str
    runs: tuple[str, ...]
    row: ComparisonRow
    labeled: int
    neurons: int
    best: frozenset[str]
    untested: frozenset[str]

    def estimate(self, metric: str) -> Estimate | None:
        """Its mean with interval; None where it has none."""
        found = self.row.metrics.get(metric)
        return found if found is not None and math.isfinite(found.mean) else None

    def mark(self, metric: str) -> str:
        """What stands behind the mean."""
        return "†" if metric in self.untested else ""


@dataclass(frozen=True)
class Board:
    """The settings that described the same neurons, the best by the first metric first.

    left_out: metrics that different models judged in different runs. detectable: for each metric the smallest
    and the largest of the differences to the best that so many neurons show in 80 of 100 experiments.
    """

    title: str
    metrics: tuple[str, ...]
    entries: tuple[Entry, ...]
    left_out: tuple[str, ...]
    detectable: Mapping[str, tuple[float, float]]

    @property
    def power(self) -> str:
        """The detectable differences in words; empty where nothing is known."""
        return ", ".join(f"{name} {spread(ends)}" for name, ends in self.detectable.items())


def leaderboards(records: Sequence[Record]) -> list[Board]:
    """One board for each set of neurons; of runs of the same settings and seed the latest counts."""
    boards: dict[str, dict[str, dict[str, Record]]] = {}
    for record in records:
        neurons = [neuron.name for neuron in record.result.neurons]
        key = digest({"target": network_of(record.result), "neurons": neurons})
        boards.setdefault(key, {}).setdefault(identity(record), {})[record.job.seed] = record
    return [_board(_named([list(seeds.values()) for seeds in board.values()])) for board in boards.values()]


def network_of(result: RunResult) -> str:
    """Names the network that a run describes; a seed decides only on random weights, and a device on none."""
    settings = flat_settings({"target": result.config.get("target")})
    ignored = {"target.device", "target.batch_size"}
    if str(settings.get("target.random_weights")).lower() != "true":
        ignored.add("target.seed")
    return digest({"target": {name: value for name, value in settings.items() if name not in ignored}})


def identity(record: Record) -> str:
    """What runs that are pooled share: everything but the seed that decides what is found."""
    settings = deciding_settings(record.result.config)
    return digest({"settings": settings, "choices": dict(record.job.choices)})


def _named(settings: Sequence[Sequence[Record]]) -> dict[str, Sequence[Record]]:
    """The settings by name: the short one, or all that was typed where two would be called the same."""
    short = [records[0].name for records in settings]
    typed = [" ".join(f"{k}={v}" for k, v in records[0].job.unseeded.items()) for records in settings]
    names = [
        long if short.count(name) > 1 and long else name for name, long in zip(short, typed, strict=True)
    ]
    return {
        f"{name} ({records[0].run})" if names.count(name) > 1 else name: records
        for name, records in zip(names, settings, strict=True)
    }


def _board(settings: Mapping[str, Sequence[Record]]) -> Board:
    jobs = {name: [record.job for record in records] for name, records in settings.items()}
    rows = {name: pooled(of_one) for name, of_one in jobs.items()}
    apart = judged_apart([job for of_one in jobs.values() for job in of_one])
    names = [name for name in headlines_of(list(rows.values())) if name not in apart]
    found = {name: _judged(name, rows, jobs) for name in names}
    judged = {name: verdicts for name, (verdicts, _) in found.items()}
    known = {name: [d for d in detectable if d == d] for name, (_, detectable) in found.items()}
    entries = [
        _entry(name, records, rows[name], {metric: verdicts.get(name) for metric, verdicts in judged.items()})
        for name, records in settings.items()
    ]
    if names:
        entries.sort(key=lambda entry: _place(entry, names[0], jobs))
    first = next(iter(settings.values()))[0]
    target = first.job.choices.get("target", "one network")
    title = f"{target}: {len(first.result.neurons)} neurons"
    ends = {name: (min(of_one), max(of_one)) for name, of_one in known.items() if of_one}
    return Board(title, tuple(names), tuple(entries), tuple(sorted(apart)), ends)


def _entry(
    name: str, records: Sequence[Record], row: ComparisonRow, verdicts: Mapping[str, Verdict | None]
) -> Entry:
    neurons = sum(len(record.result.neurons) for record in records)
    labeled = neurons - sum(len(record.result.unscored) for record in records)
    best = frozenset(metric for metric, verdict in verdicts.items() if verdict == "best")
    untested = frozenset(metric for metric, verdict in verdicts.items() if verdict == "untested")
    return Entry(name, tuple(record.run for record in records), row, labeled, neurons, best, untested)


def _judged(
    metric: str, rows: Mapping[str, ComparisonRow], jobs: Mapping[str, Sequence[Job]]
) -> tuple[dict[str, Verdict], list[float]]:
    """Of each setting, whether it is the best one or not told apart from it, worse, or not tested.

    And the differences to the best one that would be seen.
    """
    better = _higher_is_better(metric, jobs)
    having = {name: row for name, row in rows.items() if metric in row.metrics}
    top = None if better is None else best_row(list(having.values()), metric, better)
    if top is None:
        return {}, []
    (winner,) = (name for name, row in having.items() if row is top)
    others = [name for name in having if name != winner]
    found = {name: difference(metric, *paired_records(jobs[winner], jobs[name])) for name in others}
    tested = {name: one.p for name, one in found.items() if one is not None}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    verdicts: dict[str, Verdict] = dict.fromkeys(others, "untested")
    tested_verdicts: dict[str, Verdict] = {n: "worse" if p < SURE else "best" for n, p in adjusted.items()}
    detectable = [one.detectable for one in found.values() if one is not None]
    return verdicts | {winner: "best"} | tested_verdicts, detectable


def _place(entry: Entry, metric: str, jobs: Mapping[str, Sequence[Job]]) -> float:
    """Where a setting stands by a metric; those without it last."""
    found = entry.estimate(metric)
    sign = -1.0 if _higher_is_better(metric, jobs) is not False else 1.0
    return math.inf if found is None else sign * found.mean


def _higher_is_better(metric: str, jobs: Mapping[str, Sequence[Job]]) -> bool | None:
    results = [job.result for of_one in jobs.values() for job in of_one if job.result is not None]
    return first_metric(metric, results).higher_is_better
