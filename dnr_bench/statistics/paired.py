"""Do two runs differ? The same neurons in both, one against the other; pure.

Differences are after minus before. Neurons that share a label share its generated images and are no
independent witnesses: they are resampled, and their signs are flipped, together.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Float

from dnr_bench.statistics.intervals import CONFIDENCE, RESAMPLES, Estimate, estimate


@dataclass(frozen=True)
class ScoredItem:
    """A neuron (or class, pair, image) of a run with its labels and its value of each metric.

    name: as in other runs. truth: what it is known to detect, if anything is known.
    """

    name: str
    labels: Sequence[str]
    values: Mapping[str, float]
    truth: str | None = None


#: Items of a run, each under a key that the same item has in another run.
Records = Mapping[Hashable, ScoredItem]
#: The share of neurons whose first label is another one; no metric of any run, but of a pair of runs.
LABEL_CHANGE = "label_change"
POWER = 0.8
#: Differences with a smaller adjusted P are taken for more than chance.
SURE = 0.05
#: With fewer neurons no sign-flip test gives a P below that, whatever the differences are.
FEWEST_TO_TEST = 6


@dataclass(frozen=True)
class Difference(Estimate):
    """The mean of after minus before, with interval, over the items that both runs have.

    before, after: their means over those items. p: of a two-sided test that flips signs (how often chance
    alone would do as much); NaN for the change of labels, which has no sign. effect: the mean in standard
    deviations of the differences. detectable: the smallest difference that so many clusters would show in
    80 of 100 experiments.
    """

    before: float
    after: float
    clusters: int
    p: float
    effect: float
    detectable: float


def difference(
    metric: str, before: Records, after: Records, seed: int = 0, link_labels: bool = True
) -> Difference | None:
    """How a metric differs, neuron by neuron; None where no neuron has it in both runs.

    `link_labels=False` takes every neuron as a witness of its own: for the question whether *these* neurons
    fared worse, where all of them getting one bad label is not a single event.
    """
    pairs = [(before[key], record) for key, record in after.items() if key in before]
    values = [(a, b, _values(metric, a, b)) for a, b in pairs]
    known = [(a, b, pair) for a, b, pair in values if pair is not None]
    if not known:
        return None
    left, right = np.asarray([pair for _, _, pair in known], float).T
    labels = [[_labels(a), _labels(b)] if link_labels else [] for a, b, _ in known]
    clusters = linked([(b.name, of_pair) for (_, b, _), of_pair in zip(known, labels, strict=True)])
    return _difference(left, right, clusters, seed, signed=metric != LABEL_CHANGE)


def sign_flip_p(values: Float[np.ndarray, " items"], clusters: Sequence[str], seed: int = 0) -> float:
    """The share of sign flips, whole clusters at a time, whose mean is as far from 0 (two-sided)."""
    sums, _ = _cluster_sums(values, clusters)
    if len(sums) < 2 or not np.any(sums):
        return 1.0  # a single cluster is as likely either way
    found = scipy.stats.permutation_test(
        (sums,),
        lambda flipped, axis: flipped.sum(axis=axis),
        permutation_type="samples",
        n_resamples=RESAMPLES,
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    return min(float(found.pvalue), 1.0)


def holm(p_values: Sequence[float]) -> list[float]:
    """P values adjusted for how many there are (Holm 1979), in their order; NaN counts for nothing."""
    given = np.asarray(p_values, float)
    tested = np.flatnonzero(~np.isnan(given))
    order = tested[np.argsort(given[tested], kind="stable")]
    factors = len(order) - np.arange(len(order))
    adjusted = np.full(len(given), np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(given[order] * factors), 1.0)
    return [float(p) for p in adjusted]


def detectable_difference(values: Float[np.ndarray, " items"], clusters: Sequence[str]) -> float:
    """The smallest mean that a t test over so many clusters would show with a power of 80%.

    From the spread of the differences that were seen; NaN where there is none.
    """
    sums, sizes = _cluster_sums(values, clusters)
    n = len(sums)
    if n < 2:
        return float("nan")
    residuals = sums - values.mean() * sizes
    error = np.sqrt(n / (n - 1) * np.sum(residuals**2)) / len(values)
    quantiles = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) + scipy.stats.t.ppf(POWER, n - 1)
    return float(quantiles * error) if error > 0 else float("nan")


def spread(values: Sequence[float]) -> str:
    """The smallest and the largest of some values in words: "0.031", or "0.031 to 0.054"."""
    ends = dict.fromkeys(f"{value:.3f}" for value in (min(values), max(values)))
    return " to ".join(ends)


def linked(records: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """A name for each record (neuron, labels by side), the same for all that are linked.

    Records of one neuron are linked. So are neurons that have the same labels on some side in all of their
    records: these share every image. Of several seeds, neurons that share a label in one only are apart:
    most of what is known of them is not shared, and a chain of such links would join nearly all.
    """
    of_neuron: dict[str, list[Sequence[str]]] = {}
    for neuron, labels in records:
        of_neuron.setdefault(neuron, []).append(labels)
    names = {
        neuron: [
            (0, neuron),
            *((side + 1, of_side) for side, of_side in enumerate(_by_side(lists)) if any(of_side)),
        ]
        for neuron, lists in of_neuron.items()
    }
    unique = dict.fromkeys(name for of_one in names.values() for name in of_one)
    nodes = {name: i for i, name in enumerate(unique)}
    links = [(nodes[of_one[0]], nodes[name]) for of_one in names.values() for name in of_one]
    rows, columns = zip(*links, strict=True) if links else ((), ())
    graph = scipy.sparse.coo_array((np.ones(len(links)), (rows, columns)), shape=(len(nodes), len(nodes)))
    _, members = scipy.sparse.csgraph.connected_components(graph, directed=False)
    return [str(members[nodes[0, neuron]]) for neuron, _ in records]


def _by_side(lists: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """For each side (before, after) the labels of all records of a neuron; "" where one has none."""
    sides = max(map(len, lists))
    return [tuple(labels[side] if side < len(labels) else "" for labels in lists) for side in range(sides)]


def linked_by_label(records: Sequence[ScoredItem]) -> list[str]:
    """The same for records of one run, or of runs that differ in their seed."""
    return linked([(record.name, [_labels(record)]) for record in records])


def _difference(
    before: Float[np.ndarray, " pairs"],
    after: Float[np.ndarray, " pairs"],
    clusters: Sequence[str],
    seed: int,
    signed: bool,
) -> Difference:
    values = after - before
    found = estimate(values, clusters, seed, signed)
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    spread = spread if spread > 1e-9 * np.abs(values).max() else 0.0  # but for rounding they are all equal
    return Difference(
        found.mean,
        found.low,
        found.high,
        found.n,
        before=float(before.mean()),
        after=float(after.mean()),
        clusters=len(set(clusters)),
        p=sign_flip_p(values, clusters, seed) if signed else float("nan"),
        effect=found.mean / spread if spread and signed else float("nan"),
        detectable=detectable_difference(values, clusters) if spread and signed else float("nan"),
    )


def _values(metric: str, a: ScoredItem, b: ScoredItem) -> tuple[float, float] | None:
    if metric == LABEL_CHANGE:
        return (0.0, float(a.labels[0] != b.labels[0])) if a.labels and b.labels else None
    left, right = a.values.get(metric), b.values.get(metric)
    if left is None or right is None or np.isnan(left) or np.isnan(right):
        return None
    return left, right


def _cluster_sums(
    values: Float[np.ndarray, " items"], clusters: Sequence[str]
) -> tuple[Float[np.ndarray, " _"], Float[np.ndarray, " _"]]:
    _, membership = np.unique(np.asarray(clusters), return_inverse=True)
    return np.bincount(membership, values), np.bincount(membership).astype(float)


def _labels(record: ScoredItem) -> str:
    """The item's labels as one name; empty where it has none."""
    return " | ".join(record.labels)
