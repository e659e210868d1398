"""Which metrics order settings as the truth does? For whoever has no truth and must trust one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Float

from dnr_bench.infra.errors import UsageError
from dnr_bench.results.comparison import Job, grouped, judged_apart, records_of
from dnr_bench.results.records import Record
from dnr_bench.statistics.intervals import CONFIDENCE

_RESAMPLES = 1_000
#: With fewer settings a rank correlation says nothing.
FEWEST = 4


@dataclass(frozen=True)
class Trust:
    """How far one metric agrees with the truth over settings.

    correlation, low, high: Spearman's rank correlation of the settings' means with those of the truth, and
    its 95% interval over resampled neurons (NaN for metrics of whole runs). loss: by how much the setting
    that the metric likes best falls behind the truly best one, in the truth's unit. settings: how many have
    the metric.
    """

    metric: str
    correlation: float
    low: float
    high: float
    loss: float
    settings: int


def trusted(records: Sequence[Record], truth: str) -> list[Trust]:
    """Every metric of these runs against the metric `truth`, those that agree most first.

    Runs that differ in nothing but the seed are one setting. Only neurons that the truth judges in all
    settings count, and for each metric the settings that have it. Metrics that repeat the truth for some of
    its items, and those that differently named models have judged, are left out.

    Raises:
        UsageError: fewer than four settings have the truth.
    """
    settings = [list(of_one) for of_one in grouped([record.job for record in records])]
    tables = [records_of(of_one) for of_one in settings]
    results = [job.result for of_one in settings for job in of_one if job.result is not None]
    metrics = {name: metric for result in results for name, metric in result.metrics.items()}
    known = [place for place, table in enumerate(tables) if any(truth in r.values for r in table.values())]
    if len(known) < FEWEST:
        raise UsageError(
            f"{len(known)} settings have {truth}: a rank correlation needs at least {FEWEST} that describe"
            " the same neurons"
        )
    common = set.intersection(*(set(tables[place]) for place in known))
    keys = sorted((key for key in common if truth in tables[known[0]][key].values), key=str)
    means = _Means(tuple(tuple(tables[p][key].values for key in keys) for p in known), len(keys))
    of_runs = {
        name: np.asarray([_mean_of_runs(settings[place], name) for place in known]) for name in metrics
    }
    apart = judged_apart([job for of_one in settings for job in of_one])
    found = []
    for name, metric in metrics.items():
        if metric.higher_is_better is None or name in apart or truth in (name, metric.part_of):
            continue
        sign = 1.0 if metric.higher_is_better else -1.0
        if metric.item_kind == "neuron":
            found.append(means.trust(name, truth, sign))
        else:
            found.append(_trust(name, sign * of_runs[name], means.of(truth)))
    return sorted(
        (t for t in found if t.settings >= FEWEST), key=lambda t: -np.nan_to_num(t.correlation, nan=-2)
    )


@dataclass(frozen=True)
class _Means:
    """The values of the same neurons in several settings."""

    settings: tuple[tuple[Mapping[str, float], ...], ...]
    n_neurons: int

    def of(self, metric: str) -> Float[np.ndarray, " settings"]:
        """The mean of each setting; NaN where it has no value."""
        return _mean_known(self._table(metric))

    def trust(self, metric: str, truth: str, sign: float) -> Trust:
        """One metric against the truth, both over the same resampled neurons."""
        table, true = sign * self._table(metric), self._table(truth)
        rng = np.random.default_rng(31)
        drawn = rng.integers(self.n_neurons, size=(_RESAMPLES, self.n_neurons))
        rs = [_spearman(_mean_known(table[:, rows]), _mean_known(true[:, rows])) for rows in drawn]
        ends = _quantiles(np.asarray(rs))
        found = _trust(metric, _mean_known(table), _mean_known(true))
        return Trust(metric, found.correlation, *ends, found.loss, found.settings)

    def _table(self, metric: str) -> Float[np.ndarray, "settings neurons"]:
        return np.asarray(
            [[values.get(metric, np.nan) for values in of_one] for of_one in self.settings], float
        )


def _trust(metric: str, liked: Float[np.ndarray, " settings"], true: Float[np.ndarray, " settings"]) -> Trust:
    having = ~np.isnan(liked) & ~np.isnan(true)
    liked, true = liked[having], true[having]
    loss = float(true.max() - true[int(np.argmax(liked))]) if len(true) else float("nan")
    return Trust(metric, _spearman(liked, true), float("nan"), float("nan"), loss, len(true))


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
