"""Which metrics order settings as the truth does? For whoever has no truth and must trust one of them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy
from jaxtyping import Float, Int

from dnr_bench.infra.errors import UsageError
from dnr_bench.results.comparison import Job, judged_apart, records_of
from dnr_bench.results.leaderboard import identity, network_of
from dnr_bench.results.records import Record
from dnr_bench.statistics.intervals import CONFIDENCE
from dnr_bench.statistics.paired import Records

_RESAMPLES = 1_000
#: With fewer settings a rank correlation says nothing.
FEWEST = 4


@dataclass(frozen=True)
class Trust:
    """How far one metric agrees with the truth over settings.

    correlation, low, high: Spearman's rank correlation of the settings' means with those of the truth, and
    its 95% interval over resampled neurons (NaN for metrics of whole runs). neurons: how many count. loss: by
    how much the setting that the metric likes best falls behind the truly best one, in the truth's unit.
    within: Spearman's rank correlation over the neurons of a setting, the mean over settings; NaN for metrics
    of whole runs. settings: how many have the metric.
    """

    metric: str
    correlation: float
    low: float
    high: float
    loss: float
    within: float
    settings: int
    neurons: int


def trusted(records: Sequence[Record], truth: str) -> list[Trust]:
    """Every metric of these runs against the metric `truth`, those that agree most first.

    Runs that differ in nothing but the seed are one setting. Only neurons that the truth judges in all
    settings count, and for each metric the settings that have it. Metrics of the truth's own evaluator, those
    that repeat another one for some of its items, and those that differently named models have judged, are
    left out.

    Raises:
        UsageError: fewer than four settings have the truth, they describe different networks, or they have no
            neuron in common that the truth judges.
    """
    if len({network_of(record.result) for record in records}) > 1:
        raise UsageError("the runs describe different networks: name a folder with runs of one of them")
    pooled: dict[str, list[Job]] = {}
    for record in records:
        pooled.setdefault(identity(record), []).append(record.job)
    settings = list(pooled.values())
    tables = [records_of(of_one) for of_one in settings]
    results = [job.result for of_one in settings for job in of_one if job.result is not None]
    metrics = {name: metric for result in results for name, metric in result.metrics.items()}
    known = [place for place, table in enumerate(tables) if any(truth in r.values for r in table.values())]
    if len(known) < FEWEST:
        raise UsageError(
            f"{len(known)} settings have {truth}: a rank correlation needs at least {FEWEST} that describe"
            " the same neurons"
        )
    keys = sorted(
        (key for key in tables[known[0]] if all(_has(tables[place], key, truth) for place in known)), key=str
    )
    if not keys:
        raise UsageError(f"there is no neuron that {truth} judges in all of the {len(known)} settings")
    values = tuple(tuple(tables[place][key].values for key in keys) for place in known)
    _, names = np.unique([tables[known[0]][key].name for key in keys], return_inverse=True)
    means = _Means(values, names)
    of_runs = {
        name: np.asarray([_mean_of_runs(settings[place], name) for place in known]) for name in metrics
    }
    apart = judged_apart([job for of_one in settings for job in of_one])
    found = []
    for name, metric in metrics.items():
        same_judge = metric.group == metrics[truth].group
        if metric.higher_is_better is None or name in apart or metric.part_of or same_judge:
            continue
        sign = 1.0 if metric.higher_is_better else -1.0
        if metric.item_kind == "neuron":
            found.append(means.trust(name, truth, sign))
        else:
            found.append(_trust(name, sign * of_runs[name], means.of(truth), len(keys)))
    return sorted(
        (t for t in found if t.settings >= FEWEST), key=lambda t: -np.nan_to_num(t.correlation, nan=-2)
    )


def _has(table: Records, key: Hashable, metric: str) -> bool:
    """Whether an item has a value of the metric."""
    return key in table and not np.isnan(table[key].values.get(metric, np.nan))


@dataclass(frozen=True, eq=False)
class _Means:
    """The values of the same neurons in several settings; `neurons`: a number for each, whatever the seed."""

    settings: tuple[tuple[Mapping[str, float], ...], ...]
    neurons: Int[np.ndarray, " items"]

    def of(self, metric: str) -> Float[np.ndarray, " settings"]:
        """The mean of each setting; NaN where it has no value."""
        return _mean_known(self._table(metric))

    def trust(self, metric: str, truth: str, sign: float) -> Trust:
        """One metric against the truth, both over the same resampled neurons."""
        table, true = sign * self._table(metric), self._table(truth)
        rng = np.random.default_rng(31)
        n = int(self.neurons.max()) + 1
        places = [np.flatnonzero(self.neurons == neuron) for neuron in range(n)]  # its seeds stay together
        rs = []
        for drawn in rng.integers(n, size=(_RESAMPLES, n)):
            rows = np.concatenate([places[neuron] for neuron in drawn])
            rs.append(_spearman(_mean_known(table[:, rows]), _mean_known(true[:, rows])))
        ends = _quantiles(np.asarray(rs))
        found = _trust(metric, _mean_known(table), _mean_known(true), len(self.neurons))
        pairs = [_spearman(own, of_truth) for own, of_truth in zip(table, true, strict=True)]
        known = [r for r in pairs if not np.isnan(r)]
        within = float(np.mean(known)) if known else float("nan")
        return replace(found, low=ends[0], high=ends[1], within=within)

    def _table(self, metric: str) -> Float[np.ndarray, "settings neurons"]:
        return np.asarray(
            [[values.get(metric, np.nan) for values in of_one] for of_one in self.settings], float
        )


def _trust(
    metric: str,
    liked: Float[np.ndarray, " settings"],
    true: Float[np.ndarray, " settings"],
    n_neurons: int,
) -> Trust:
    having = ~np.isnan(liked) & ~np.isnan(true)
    liked, true = liked[having], true[having]
    loss = float(true.max() - true[int(np.argmax(liked))]) if len(true) else float("nan")
    unknown = float("nan")
    return Trust(metric, _spearman(liked, true), unknown, unknown, loss, unknown, len(true), n_neurons)


def _mean_of_runs(jobs: Sequence[Job], metric: str) -> float:
    found = [job.result.metrics[metric].mean for job in jobs if job.result and metric in job.result.metrics]
    return float(np.mean(found)) if found else float("nan")


def _mean_known(table: Float[np.ndarray, "settings neurons"]) -> Float[np.ndarray, " settings"]:
    known = ~np.isnan(table)
    sums = np.where(known, table, 0.0).sum(axis=1)
    counts = known.sum(axis=1)
    found: np.ndarray = np.divide(sums, counts, out=np.full(len(table), np.nan), where=counts > 0)
    return found


def _spearman(a: Float[np.ndarray, " settings"], b: Float[np.ndarray, " settings"]) -> float:
    having = ~np.isnan(a) & ~np.isnan(b)
    a, b = a[having], b[having]
    if len(a) < FEWEST or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(scipy.stats.rankdata(a), scipy.stats.rankdata(b))[0, 1])


def _quantiles(values: Float[np.ndarray, " resamples"]) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    if len(known) < len(values) / 2:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
