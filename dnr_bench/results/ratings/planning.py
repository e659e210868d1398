"""How many ratings for which error, at what price? Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Float

from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.ranges import check_range
from dnr_bench.results.ratings.analysis import Rating
from dnr_bench.statistics.intervals import CONFIDENCE
from dnr_bench.statistics.paired import POWER


@dataclass(frozen=True)
class Spread:
    """Where ratings vary, as variances: between neurons, between raters, and within pairs of both."""

    neurons: float
    raters: float
    rest: float

    def error(self, neurons: int, raters: int, per_neuron: int) -> float:
        """The standard error of a mean over so many neurons, each rated by so many of the raters."""
        within = self.rest / (neurons * per_neuron)
        return float(np.sqrt(self.neurons / neurons + self.raters / raters + within))


@dataclass(frozen=True)
class Plan:
    """A study and what it would tell.

    error: the standard error of a method's mean rating; detectable: the smallest difference of two methods
    that it would show in 80 of 100 studies. ratings: of labels, all methods together. dollars: what it costs.
    """

    neurons: int
    raters: int
    per_neuron: int
    error: float
    detectable: float
    ratings: int
    dollars: float


#: Of single methods and of differences between two: from the 276 ratings of the units that two volunteers
#: rated for DnD's table 9, which the authors published (docs/ratings.md); of your own with `--pilot`.
PUBLISHED = (Spread(1.27, 0.01, 0.67), Spread(1.52, 0.0, 0.82))


def spread_of(values: Float[np.ndarray, " ratings"], raters: Sequence[str], neurons: Sequence[str]) -> Spread:
    """The variances from products of two ratings: of one neuron, of one rater, of neither.

    Moment estimators of a model with two crossed random effects; a negative estimate is 0.

    Raises:
        UsageError: no rater rated two neurons, or no neuron was rated twice.
    """
    residuals = values - values.mean()
    _, of_raters = np.unique(np.asarray(raters), return_inverse=True)
    _, of_neurons = np.unique(np.asarray(neurons), return_inverse=True)
    own, total = float(np.sum(residuals**2)), len(values)
    products = {}
    for name, groups in (("raters", of_raters), ("neurons", of_neurons)):
        sizes = np.bincount(groups).astype(float)
        pairs = float(np.sum(sizes**2)) - total
        if pairs == 0:
            raise UsageError(f"the spread between {name} cannot be told: each of them has a single rating")
        products[name] = (float(np.sum(np.bincount(groups, residuals) ** 2)) - own, pairs)
    rest_pairs = total**2 - total - products["raters"][1] - products["neurons"][1]
    rest = (-own - products["raters"][0] - products["neurons"][0]) / rest_pairs if rest_pairs > 0 else 0.0
    between_raters = products["raters"][0] / products["raters"][1] - rest
    between_neurons = products["neurons"][0] / products["neurons"][1] - rest
    within = own / total - rest - between_raters - between_neurons
    return Spread(max(between_neurons, 0.0), max(between_raters, 0.0), max(within, 0.0))


def spreads_of(ratings: Sequence[Rating]) -> tuple[Spread, Spread]:
    """Of a method's ratings, and of the differences of two methods; means over methods and pairs."""
    methods = list(dict.fromkeys(rating.method for rating in ratings))
    own = []
    by_method = {}
    for method in methods:
        of_one = [rating for rating in ratings if rating.method == method]
        by_method[method] = {(r.rater, r.neuron): r.value for r in of_one}
        own.append(_spread(by_method[method]))
    differences = []
    for place, a in enumerate(methods):
        for b in methods[place + 1 :]:
            shared = by_method[a].keys() & by_method[b].keys()
            if shared:
                differences.append(_spread({k: by_method[b][k] - by_method[a][k] for k in sorted(shared)}))
    return _mean(own), _mean(differences or own)


def plans(
    error: float, price: float, methods: int, raters: int, spreads: tuple[Spread, Spread] = PUBLISHED
) -> list[Plan]:
    """For 1, 2, 3 and 5 ratings per neuron the smallest study with that standard error; the cheapest first.

    Args:
        error: the standard error of a method's mean rating, on the scale from 1 to 5.
        price: dollars per neuron that a rater judges, all methods together (DnD A.1.6: 0.08).
        methods: how many are rated.
        raters: how many people take part.
        spreads: of single methods, and of differences.

    Raises:
        UsageError: so few raters never reach that error, or a number makes no sense.
    """
    check_range(0.001, 4, error=error)
    check_range(0, 10_000, price=price)
    check_range(1, 1_000, methods=methods)
    check_range(2, 100_000, raters=raters)
    one, pair = spreads
    left = error**2 - one.raters / raters
    if left <= 0:
        needed = int(np.ceil(one.raters / error**2)) + 1
        raise UsageError(
            f"raters={raters}: people differ so much that an error of {error:g} needs {needed} raters or more"
        )
    found = []
    for per_neuron in (k for k in (1, 2, 3, 5) if k <= raters):
        neurons = max(int(np.ceil((one.neurons + one.rest / per_neuron) / left)), 2)
        judged = neurons * per_neuron
        degrees = min(neurons, raters) - 1
        quantiles = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, degrees) + scipy.stats.t.ppf(POWER, degrees)
        found.append(
            Plan(
                neurons,
                raters,
                per_neuron,
                one.error(neurons, raters, per_neuron),
                float(quantiles) * pair.error(neurons, raters, per_neuron),
                judged * methods,
                judged * price,
            )
        )
    return sorted(found, key=lambda plan: plan.dollars)


def _spread(values: Mapping[tuple[str, str], float]) -> Spread:
    return spread_of(
        np.asarray(list(values.values()), float),
        [rater for rater, _ in values],
        [neuron for _, neuron in values],
    )


def _mean(spreads: Sequence[Spread]) -> Spread:
    return Spread(
        float(np.mean([s.neurons for s in spreads])),
        float(np.mean([s.raters for s in spreads])),
        float(np.mean([s.rest for s in spreads])),
    )
