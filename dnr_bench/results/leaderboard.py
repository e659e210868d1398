"""All runs of the same neurons against all headline metrics, each tested against the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dnr_bench.infra.digests import digest
from dnr_bench.results.comparison import (
    ComparisonRow,
    Job,
    best_row,
    first_metric,
    headlines_of,
    judged_apart,
    pooled,
    records_of,
)
from dnr_bench.results.records import Record
from dnr_bench.statistics.paired import difference, holm

#: A setting is as good as the best one unless the paired test tells them apart at this level.
_SURE = 0.05


@dataclass(frozen=True)
class Entry:
    """One setting, its seeds pooled. best: metrics in which it is the best one, or not told apart from it.

    runs: the run of each seed.
    """

    name: str
    runs: tuple[str, ...]
    row: ComparisonRow
    best: frozenset[str]


@dataclass(frozen=True)
class Board:
    """The settings that described the same neurons, the best by the first metric first.

    left_out: metrics that different models judged in different runs.
    """

    title: str
    metrics: tuple[str, ...]
    entries: tuple[Entry, ...]
    left_out: tuple[str, ...]


def leaderboards(records: Sequence[Record]) -> list[Board]:
    """One board for each set of neurons; of runs of the same settings and seed the latest counts."""
    boards: dict[str, dict[str, dict[str, Record]]] = {}
    for record in records:
        neurons = [neuron.name for neuron in record.result.neurons]
        key = digest({"target": record.result.config.get("target"), "neurons": neurons})
        boards.setdefault(key, {}).setdefault(record.name, {})[record.job.seed] = record
    return [
        _board({name: list(seeds.values()) for name, seeds in of_one.items()}) for of_one in boards.values()
    ]


def _board(settings: Mapping[str, Sequence[Record]]) -> Board:
    jobs = {name: [record.job for record in records] for name, records in settings.items()}
    everything = [job for of_one in jobs.values() for job in of_one]
    rows = {name: pooled(of_one) for name, of_one in jobs.items()}
    apart = judged_apart(everything)
    names = [name for name in headlines_of(list(rows.values())) if name not in apart]
    best = {name: _best(name, rows, jobs) for name in names}
    entries = [
        Entry(
            name,
            tuple(record.run for record in settings[name]),
            row,
            frozenset(metric for metric in names if name in best[metric]),
        )
        for name, row in rows.items()
    ]
    if names:
        entries.sort(key=lambda entry: _place(entry, names[0], jobs))
    first = next(iter(settings.values()))[0]
    target = first.job.choices.get("target", "one network")
    title = f"{target}: {len(first.result.neurons)} neurons"
    return Board(title, tuple(names), tuple(entries), tuple(sorted(apart)))


def _best(metric: str, rows: Mapping[str, ComparisonRow], jobs: Mapping[str, Sequence[Job]]) -> set[str]:
    """The best setting, and those that the paired test does not tell from it."""
    better = _higher_is_better(metric, jobs)
    having = {name: row for name, row in rows.items() if metric in row.metrics}
    top = None if better is None else best_row(list(having.values()), metric, better)
    if top is None:
        return set()
    (winner,) = (name for name, row in having.items() if row is top)
    others = [name for name in having if name != winner]
    found = {name: difference(metric, records_of(jobs[winner]), records_of(jobs[name])) for name in others}
    tested = [name for name in others if found[name] is not None]
    adjusted = holm([found[name].p for name in tested])  # type: ignore[union-attr]
    return {winner, *(name for name, p in zip(tested, adjusted, strict=True) if not p < _SURE)}


def _place(entry: Entry, metric: str, jobs: Mapping[str, Sequence[Job]]) -> float:
    """Where a setting stands by a metric; those without it last."""
    if metric not in entry.row.metrics:
        return float("inf")
    sign = -1.0 if _higher_is_better(metric, jobs) is not False else 1.0
    return sign * entry.row.metrics[metric].mean


def _higher_is_better(metric: str, jobs: Mapping[str, Sequence[Job]]) -> bool | None:
    results = [job.result for of_one in jobs.values() for job in of_one if job.result is not None]
    return first_metric(metric, results).higher_is_better
