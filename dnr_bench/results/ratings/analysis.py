"""What follows from ratings: the papers' tables, with intervals over raters and neurons. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
from jaxtyping import Float

from dnr_bench.data.scorecard import Plot, Table
from dnr_bench.results.ratings.answers import Answers
from dnr_bench.results.ratings.study import CHANCE, SCALE, Item, Sample, Study
from dnr_bench.statistics.agreement import ordinal_alpha
from dnr_bench.statistics.crossed import CrossedMean, crossed_mean
from dnr_bench.statistics.importance import SampledCorrelation, sampled_correlation
from dnr_bench.statistics.intervals import Estimate, estimate
from dnr_bench.statistics.paired import holm, sign_flip_p
from dnr_bench.statistics.strengths import strengths
from dnr_bench.statistics.votes import vote


@dataclass(frozen=True)
class Rating:
    """What one rater thinks of one method's label of one neuron.

    value: on the scale from 1 to 5. best: 1 where the label was chosen as best, shared where several methods
    say the same; NaN where nobody asked.
    """

    rater: str
    neuron: str
    layer: str
    method: str
    label: str
    value: float
    best: float


@dataclass(frozen=True)
class LabelRating:
    """A label of a neuron and what people think of it: how evaluators know it again.

    rating, best: means over raters; correlation: over all images; NaN where it was not asked. error: the
    standard error. ratings: how many.
    """

    neuron: str
    label: str
    methods: tuple[str, ...]
    ratings: int
    rating: float
    best: float
    correlation: float
    error: float


@dataclass(frozen=True)
class Findings:
    """labels: each rated label. tables: for people. figures: for MLflow, by name."""

    labels: tuple[LabelRating, ...]
    tables: tuple[Table, ...]
    figures: Mapping[str, float] = field(default_factory=dict)


def ratings_of(answers: Sequence[Answers], study: Study) -> list[Rating]:
    """A rating per rater, neuron and method; methods that say the same share their rating."""
    return [
        rating
        for of_one in answers
        for answer in of_one.answers
        for rating in _of_answer(of_one.rater, answer.ratings, answer.best, study.by_item[answer.item])
    ]


def _of_answer(rater: str, ratings: Mapping[str, int], best: str, item: Item) -> Iterator[Rating]:
    for label in item.labels:
        if label.id in ratings:
            value = float(ratings[label.id])
            for method in label.methods:
                chosen = (label.id == best) / len(label.methods) if best else float("nan")
                yield Rating(rater, item.neuron, item.layer, method, label.text, value, chosen)


def rated(ratings: Sequence[Rating], methods: Sequence[str]) -> Findings:
    """The tables of a study that asks for ratings.

    ratings: of those that count. methods: in the order in which they are shown; those without a rating are
    left out.
    """
    own = [rating for rating in ratings if rating.method != CHANCE]
    shown = [method for method in methods if any(r.method == method for r in own)]
    agreement = list(_agreement(own, shown))
    tables = [
        *rating_tables(ratings, methods),
        Table("strengths", list(_strengths(own, shown))),
        Table("agreement", agreement),
    ]
    figures = {f"rating.{row['method']}": row["rating"] for row in tables[0].rows}
    figures |= {f"best.{row['method']}": row["best"] for row in tables[0].rows}
    figures |= {"alpha": agreement[0]["alpha"]}
    return Findings(tuple(_labels(ratings)), tuple(t for t in tables if t.rows), _numbers(figures))


def rating_tables(ratings: Sequence[Rating], methods: Sequence[str]) -> list[Table]:
    """The means of methods (DnD tables 3 and 4), by layer (6 and 9), and paired differences."""
    shown = [method for method in methods if any(r.method == method for r in ratings)]
    return [
        Table(
            "ratings", list(_by_method(ratings, shown)), Plot("method", "rating", (), "mean rating", "bars")
        ),
        Table("ratings_by_layer", list(_by_layer(ratings, shown))),
        Table("rating_differences", list(_differences(ratings, shown))),
    ]


def chance_of(ratings: Sequence[Rating]) -> float:
    """What labels of other neurons get; NaN where none were shown."""
    found = [rating.value for rating in ratings if rating.method == CHANCE]
    return float(np.mean(found)) if found else float("nan")


def correlated(answers: Sequence[Answers], study: Study) -> Findings:
    """The tables of a study that asks about pictures: how labels go with activations over all images."""
    present, reliability = presence_of(answers, study)
    labels = []
    for sample in study.samples:
        found = correlation_of(sample, present)
        of_label = [image for image in set(sample.images) if (sample.label, image) in present]
        labels.append(
            LabelRating(
                sample.neuron, sample.label, sample.methods, len(of_label), float("nan"), float("nan"),
                found.mean, found.error,
            )
        )  # fmt: skip
    values = {
        method: {label.neuron: label.correlation for label in labels if method in label.methods}
        for method in study.methods
    }
    values = {method: of_one for method, of_one in values.items() if of_one}
    layers = {sample.neuron: sample.layer for sample in study.samples}
    tables = [
        Table(
            "correlations",
            [{"method": m, **_estimated(v)} for m, v in values.items()],
            Plot("method", "correlation", (), "over all images", "bars"),
        ),
        Table("correlations_by_layer", list(_correlations_by_layer(values, layers))),
        Table("correlation_differences", list(_correlation_differences(values))),
        Table("reliability", reliability),
    ]
    figures = {f"correlation.{row['method']}": row["correlation"] for row in tables[0].rows}
    return Findings(tuple(labels), tuple(t for t in tables if t.rows), _numbers(figures))


def presence_of(
    answers: Sequence[Answers], study: Study
) -> tuple[dict[tuple[str, int], float], list[dict[str, object]]]:
    """How probably each picture that somebody looked at shows a label; and how reliable each rater is."""
    before = {
        (sample.label, image): presence
        for sample in study.samples
        for image, presence in zip(sample.images, sample.presence, strict=True)
    }
    pairs: dict[tuple[str, int], int] = {}
    said, items, raters = [], [], []
    for number, of_one in enumerate(answers):
        for answer in of_one.answers:
            item = study.by_item[answer.item]
            for place, image in enumerate(item.images):
                pair = item.labels[0].text, image
                said.append(place in answer.chosen)
                items.append(pairs.setdefault(pair, len(pairs)))
                raters.append(number)
    found = vote(
        np.asarray(said, bool),
        np.asarray(items, int),
        np.asarray(raters, int),
        np.asarray([before[pair] for pair in pairs], float),
    )
    reliability: list[dict[str, object]] = [
        {"rater": of_one.rater, "yes_called_yes": float(hit), "no_called_no": float(rejection)}
        for of_one, hit, rejection in zip(answers, found.hits, found.rejections, strict=True)
    ]
    return {pair: float(found.posterior[place]) for pair, place in pairs.items()}, reliability


def correlation_of(sample: Sample, present: Mapping[tuple[str, int], float]) -> SampledCorrelation:
    """The correlation over all images, from the draws that somebody looked at."""
    looked = [place for place, image in enumerate(sample.images) if (sample.label, image) in present]
    shown = np.asarray([present[sample.label, sample.images[place]] for place in looked], float)
    found = sampled_correlation(
        np.asarray([sample.activations[place] for place in looked], float),
        1 - shown if sample.common else shown,
        np.asarray([sample.chances[place] for place in looked], float),
        sample.n_images,
    )
    return replace(found, mean=-found.mean, low=-found.high, high=-found.low) if sample.common else found


# ratings


def _values(ratings: Sequence[Rating]) -> CrossedMean:
    values = np.asarray([rating.value for rating in ratings], float)
    return crossed_mean(values, *_who(ratings), (SCALE[0], SCALE[-1]))


def _bests(ratings: Sequence[Rating]) -> CrossedMean:
    values = np.asarray([rating.best for rating in ratings], float)
    return crossed_mean(values, *_who(ratings), (0.0, 1.0))


def _who(ratings: Sequence[Rating]) -> tuple[list[str], list[str]]:
    return [rating.rater for rating in ratings], [rating.neuron for rating in ratings]


def _by_method(ratings: Sequence[Rating], methods: Sequence[str]) -> Iterator[dict[str, object]]:
    """Tables 3 and 4 of DnD: the mean rating and how often each is chosen as best."""
    for method in methods:
        own = [rating for rating in ratings if rating.method == method]
        value, best = _values(own), _bests(own)
        yield {
            "method": method,
            "rating": value.mean,
            "rating.low": value.low,
            "rating.high": value.high,
            "error": value.error,
            "best": best.mean,
            "best.low": best.low,
            "best.high": best.high,
            "ratings": value.n,
            "raters": value.raters,
            "neurons": value.neurons,
        }


def _by_layer(ratings: Sequence[Rating], methods: Sequence[str]) -> Iterator[dict[str, object]]:
    """Tables 6 and 9 of DnD: the mean rating of each layer."""
    layers = list(dict.fromkeys(rating.layer for rating in ratings))
    for layer in layers if len(layers) > 1 else ():
        for method in methods:
            own = [r for r in ratings if r.method == method and r.layer == layer]
            if own:
                value, best = _values(own), _bests(own)
                yield {
                    "layer": layer,
                    "method": method,
                    "rating": value.mean,
                    "rating.low": value.low,
                    "rating.high": value.high,
                    "best": best.mean,
                    "ratings": value.n,
                }


def _differences(ratings: Sequence[Rating], methods: Sequence[str]) -> Iterator[dict[str, object]]:
    """Each pair of methods on what the same rater said of the same neuron.

    P by Holm, over the pairs of methods and, apart from these, over the methods against chance.
    """
    by_method: dict[str, dict[tuple[str, str], Rating]] = {method: {} for method in methods}
    for rating in ratings:
        if rating.method in by_method:
            by_method[rating.method][rating.rater, rating.neuron] = rating
    pairs = [(a, b, _paired(by_method[a], by_method[b])) for a, b in combinations(methods, 2)]
    pairs = [pair for pair in pairs if pair[2].n]
    of_methods = [pair for pair in pairs if CHANCE not in pair[:2]]
    to_chance = [pair for pair in pairs if CHANCE in pair[:2]]
    for (before, after, found), p in [*_with_holm(of_methods), *_with_holm(to_chance)]:
        yield {
            "before": before,
            "after": after,
            "difference": found.mean,
            "low": found.low,
            "high": found.high,
            "p": found.p,
            "p_holm": p,
            "ratings": found.n,
        }


def _with_holm(
    pairs: Sequence[tuple[str, str, CrossedMean]],
) -> Iterator[tuple[tuple[str, str, CrossedMean], float]]:
    return zip(pairs, holm([found.p for _, _, found in pairs]), strict=True)


def _paired(a: Mapping[tuple[str, str], Rating], b: Mapping[tuple[str, str], Rating]) -> CrossedMean:
    keys = [key for key in a if key in b]
    values = np.asarray([b[key].value - a[key].value for key in keys], float)
    reach = SCALE[-1] - SCALE[0]
    return crossed_mean(values, [rater for rater, _ in keys], [neuron for _, neuron in keys], (-reach, reach))


def _strengths(ratings: Sequence[Rating], methods: Sequence[str]) -> Iterator[dict[str, object]]:
    responses: dict[tuple[str, str], dict[str, float]] = {}
    for rating in ratings:
        responses.setdefault((rating.rater, rating.neuron), {})[rating.method] = rating.value
    if len(methods) < 2 or not responses:
        return
    wins = np.stack([_wins(of_one, methods) for of_one in responses.values()])
    found = strengths(wins, [rater for rater, _ in responses], [neuron for _, neuron in responses])
    for method, of_one in zip(methods, found, strict=True):
        row = {"method": method, "strength": of_one.mean, "low": of_one.low, "high": of_one.high}
        yield {**row, "responses": of_one.n}


def _wins(values: Mapping[str, float], methods: Sequence[str]) -> Float[np.ndarray, "methods methods"]:
    own = np.asarray([values.get(method, np.nan) for method in methods])
    above = (own[:, None] > own[None, :]) + 0.5 * (own[:, None] == own[None, :])
    known = ~np.isnan(own)
    found: np.ndarray = above * known[:, None] * known[None, :] * (1 - np.eye(len(own)))
    return found


def _agreement(ratings: Sequence[Rating], methods: Sequence[str]) -> Iterator[dict[str, object]]:
    """Krippendorff's alpha over labels, of all methods together and of each."""
    for method in (None, *methods):
        own = [rating for rating in ratings if method in (None, rating.method)]
        raters = {name: row for row, name in enumerate(dict.fromkeys(r.rater for r in own))}
        labels = {key: column for column, key in enumerate(dict.fromkeys((r.neuron, r.label) for r in own))}
        table = np.full((len(raters), len(labels)), np.nan)
        for (rater, neuron, label), value in _by_rater(own).items():
            table[raters[rater], labels[neuron, label]] = value
        found = ordinal_alpha(table)
        row = {"method": method or "all", "alpha": found.mean, "low": found.low, "high": found.high}
        yield {**row, "labels": found.n}


def _labels(ratings: Sequence[Rating]) -> Iterator[LabelRating]:
    by_label: dict[tuple[str, str], list[Rating]] = {}
    for rating in ratings:
        by_label.setdefault((rating.neuron, rating.label), []).append(rating)
    for (neuron, label), of_one in by_label.items():
        methods = tuple(dict.fromkeys(rating.method for rating in of_one))
        values = list(_by_rater(of_one).values())
        bests = [rating.best * len(methods) for rating in of_one]
        spread = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
        yield LabelRating(
            neuron, label, methods, len(values), float(np.mean(values)), float(np.mean(bests)), float("nan"),
            spread,
        )  # fmt: skip


def _by_rater(ratings: Sequence[Rating]) -> dict[tuple[str, str, str], float]:
    """What each rater said of each label: the mean, where the same words were rated for two methods."""
    found: dict[tuple[str, str, str], list[float]] = {}
    for rating in ratings:
        found.setdefault((rating.rater, rating.neuron, rating.label), []).append(rating.value)
    return {key: float(np.mean(values)) for key, values in found.items()}


# correlations


def _estimated(values: Mapping[str, float]) -> dict[str, object]:
    found: Estimate = estimate(np.asarray(list(values.values())), list(values), signed=True)
    ends = {"correlation.low": found.low, "correlation.high": found.high}
    row = {"correlation": found.mean, **ends, "neurons": found.n}
    return {**row, "unknown": int(np.isnan(list(values.values())).sum())}


def _correlations_by_layer(
    values: Mapping[str, Mapping[str, float]], layers: Mapping[str, str]
) -> Iterator[dict[str, object]]:
    names = list(dict.fromkeys(layers.values()))
    for layer in names if len(names) > 1 else ():
        for method, of_one in values.items():
            own = {neuron: value for neuron, value in of_one.items() if layers[neuron] == layer}
            if own:
                yield {"layer": layer, "method": method, **_estimated(own)}


def _correlation_differences(values: Mapping[str, Mapping[str, float]]) -> Iterator[dict[str, object]]:
    found = []
    for before, after in combinations(values, 2):
        both = [n for n in values[before] if n in values[after]]
        differences = np.asarray([values[after][n] - values[before][n] for n in both], float)
        known = ~np.isnan(differences)
        if known.any():
            names = [n for n, is_known in zip(both, known, strict=True) if is_known]
            differences = differences[known]
            p = sign_flip_p(differences, names)
            found.append((before, after, estimate(differences, names, signed=True), p))
    for (before, after, mean, p), adjusted in zip(found, holm([f[3] for f in found]), strict=True):
        row = {"before": before, "after": after, "difference": mean.mean, "low": mean.low, "high": mean.high}
        yield {**row, "p": p, "p_holm": adjusted, "neurons": mean.n}


def _numbers(figures: Mapping[str, object]) -> dict[str, float]:
    return {name: float(value) for name, value in figures.items() if isinstance(value, float)}
