"""Rating studies on planted truth: `python -m dnr_bench.shapes.check_ratings NAME=RUN ...`.

Simulated raters judge the labels of finished runs of the shapes world, in many studies of other neurons and
other raters. Are means and correlations unbiased, do intervals cover, is the planned error met, are careless
raters found, are methods ordered as truth orders them, and what does drawing images well save?
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from rich.console import Console
from rich.table import Table as Grid
from scipy.special import expit, logit
from tqdm import tqdm

from dnr_bench.app.composition import load_config
from dnr_bench.app.configuration import build_run
from dnr_bench.app.parts import PartBuilder
from dnr_bench.app.rate.build import sorted_words
from dnr_bench.app.rate.pictures import Draws, check_probe, samples_of
from dnr_bench.data.images import ProbeSet, VectorsOf
from dnr_bench.infra.digests import Key
from dnr_bench.infra.planted import read_planted
from dnr_bench.protocols import Presence
from dnr_bench.results.ratings.analysis import Rating, correlation_of, presence_of, rating_tables, ratings_of
from dnr_bench.results.ratings.answers import Answers, read_page
from dnr_bench.results.ratings.design import Design, Source, label_items, picture_items, study_of
from dnr_bench.results.ratings.planning import plans, spreads_of
from dnr_bench.results.ratings.study import CHANCE, Study
from dnr_bench.results.ratings.validity import Rules, filtered
from dnr_bench.results.schema import NeuronResult
from dnr_bench.session import Session
from dnr_bench.shapes.concepts import parse
from dnr_bench.shapes.raters import Rater, World, crowd, page_answers
from dnr_bench.statistics.paired import SURE

#: The share of raters who are careless, in studies that ask whether they are found.
_CARELESS = 0.2
#: An estimate and the ends of its interval.
Interval = tuple[float, float, float]


@dataclass(frozen=True)
class Figures:
    """One estimate over many studies: the truth, its mean error, its standard error, and the coverage."""

    name: str
    truth: float
    bias: float
    error: float
    coverage: float
    n: int

    @classmethod
    def of(cls, name: str, truth: float, found: Sequence[Interval]) -> Figures:
        """found: (estimate, low, high) of each study."""
        means, lows, highs = np.asarray(found, float).T
        known = ~np.isnan(means)
        means, lows, highs = means[known], lows[known], highs[known]
        inside = float(np.mean((lows <= truth) & (truth <= highs)))
        return cls(name, truth, float(means.mean() - truth), float(means.std(ddof=1)), inside, len(means))


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m dnr_bench.shapes.check_ratings", description=__doc__)
    parser.add_argument("words", nargs="+", metavar="NAME=RUN or key=value")
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--neurons", type=int, default=40)
    parser.add_argument(
        "--noise", type=float, default=0.0, help="makes CLIP see labels less well; try 1 to 3"
    )
    parser.add_argument("--only", choices=("ratings", "pictures"), help="one of the two kinds of studies")
    given = parser.parse_args()
    _, sources, settings = sorted_words(given.words)
    config = load_config(*settings, "evaluator=[]")
    session = build_run(config).session()
    check_probe(session, sources)
    planted = read_planted(config.target.checkpoint)
    images = [_attributes(text) for text in session.probe.captions or ()]
    world = World.of(planted, images)
    out = Console(width=110)
    if given.only != "pictures":
        _check_ratings(sources, world, given.studies, given.neurons, out)
    if given.only != "ratings":
        presence = Blurred(PartBuilder(config).part("presence", Presence), given.noise)
        _check_pictures(sources, world, session, presence, given.studies, out)
    return 0


def _attributes(caption: str) -> frozenset[str]:
    (only,) = parse(caption).alternatives
    return only


# ratings


def _check_ratings(sources: Sequence[Source], world: World, studies: int, n: int, out: Console) -> None:
    pool = [neuron for neuron in sources[0].result.neurons if neuron.name in world.truths]
    truth = _population(sources, pool, world)
    methods = [source.name for source in sources]
    wanted = sorted(methods, key=lambda method: truth["rating", method])
    estimates: dict[str, list[Interval]] = {}
    counts: Counter[str] = Counter()
    for seed in tqdm(range(studies), desc="studies"):
        ratings, _ = _study(sources, pool, world, n, Design(12, 3, 2, seed=seed), 0.0)
        tables = {table.name: table.rows for table in rating_tables(ratings, (*methods, CHANCE))}
        means = {str(row["method"]): _number(row, "rating") for row in tables["ratings"]}
        counts["ordered"] += sorted(methods, key=lambda method: means[method]) == wanted
        for row in tables["ratings"]:
            for what in ("rating", "best"):
                found = _number(row, what), _number(row, f"{what}.low"), _number(row, f"{what}.high")
                estimates.setdefault(f"{what}: {row['method']}", []).append(found)
        for row in tables["rating_differences"]:
            name = f"{row['before']} to {row['after']}"
            found = _number(row, "difference"), _number(row, "low"), _number(row, "high")
            estimates.setdefault(name, []).append(found)
            counts["differences"] += 1
            if _number(row, "p_holm") < SURE:
                true = truth["rating", str(row["after"])] - truth["rating", str(row["before"])]
                counts["sure"] += 1
                counts["wrong"] += found[0] * true < 0
        _, caught = _study(sources, pool, world, n, Design(12, 3, 2, seed=seed + 10_000), _CARELESS)
        counts += caught
    figures = [Figures.of(name, _true(name, truth), values) for name, values in estimates.items()]
    _print(f"{studies} studies of {n} neurons, 12 raters, 3 per neuron", figures, out)
    out.print(
        f"methods ordered as truth orders them: {counts['ordered']} of {studies} studies; differences that"
        f" are sure: {counts['sure']} of {counts['differences']}, in the wrong direction {counts['wrong']}"
    )
    out.print(
        f"left out: {counts['caught']} of {counts['careless']} careless raters,"
        f" {counts['wronged']} of {counts['careful']} careful ones"
    )
    _check_plan(sources, pool, world, studies, out)


def _true(name: str, truth: Mapping[tuple[str, str], float]) -> float:
    before, to, after = name.partition(" to ")
    if to:
        return truth["rating", after] - truth["rating", before]
    what, _, method = name.partition(": ")
    return truth[what, method]


def _number(row: Mapping[str, object], name: str) -> float:
    value = row[name]
    return float(value) if isinstance(value, int | float) else float("nan")


def _study(
    sources: Sequence[Source],
    pool: Sequence[NeuronResult],
    world: World,
    n: int,
    design: Design,
    careless: float,
) -> tuple[list[Rating], Counter[str]]:
    """The ratings that count in one study of neurons drawn from the pool, and who was left out."""
    rng = np.random.default_rng([design.seed, 7])
    drawn = [pool[place] for place in rng.integers(len(pool), size=n)]
    study = _label_study(sources, drawn, design)
    raters = crowd(len(study.pages), careless, design.seed)
    kept, _ = filtered(_given(study, raters, world, design.seed), study, Rules())
    return ratings_of(kept, study), _caught(study, raters, {answers.page for answers in kept})


def _given(study: Study, raters: Sequence[Rater], world: World, seed: int) -> list[Answers]:
    """What the raters say, one at each page."""
    return [
        read_page(page_answers(study, page, rater, world, seed), study, "")
        for page, rater in zip(study.pages, raters, strict=True)
    ]


def _caught(study: Study, raters: Sequence[Rater], kept: set[str]) -> Counter[str]:
    found: Counter[str] = Counter()
    for page, rater in zip(study.pages, raters, strict=True):
        careful = rater.care == "careful"
        found["careful" if careful else "careless"] += 1
        if page.id not in kept:
            found["wronged" if careful else "caught"] += 1
    return found


def _label_study(sources: Sequence[Source], drawn: Sequence[NeuronResult], design: Design) -> Study:
    """A study of these neurons, which may be drawn several times: each is a neuron of its own."""
    copies = [_renamed(neuron, number) for number, neuron in enumerate(drawn)]
    own = [
        Source(source.name, replace(source.result, neurons=tuple(_copies(source, drawn))))
        for source in sources
    ]
    pictures = {copy.name: 10 for copy in copies}
    return study_of("check", own, label_items(own, copies, pictures, design), design, unlabeled={})


def _copies(source: Source, drawn: Sequence[NeuronResult]) -> Iterator[NeuronResult]:
    by_name = {neuron.name: neuron for neuron in source.result.neurons}
    for number, neuron in enumerate(drawn):
        yield _renamed(by_name[neuron.name], number)


def _renamed(neuron: NeuronResult, number: int) -> NeuronResult:
    return replace(neuron, layer=f"{number}#{neuron.layer}")


def _population(
    sources: Sequence[Source], pool: Sequence[NeuronResult], world: World
) -> dict[tuple[str, str], float]:
    """The mean ratings and shares best over all neurons and very many careful raters."""
    sums: dict[tuple[str, str], list[float]] = {}
    for seed in range(40):
        study = _label_study(sources, pool, Design(120, 60, 0, seed=seed + 500_000))
        raters = crowd(len(study.pages), 0.0, seed + 500_000)
        for rating in ratings_of(_given(study, raters, world, seed), study):
            sums.setdefault(("rating", rating.method), []).append(rating.value)
            sums.setdefault(("best", rating.method), []).append(rating.best)
    return {key: float(np.mean(values)) for key, values in sums.items()}


def _check_plan(
    sources: Sequence[Source], pool: Sequence[NeuronResult], world: World, studies: int, out: Console
) -> None:
    """Does a study of the planned size have the planned error?"""
    pilot, _ = _study(sources, pool, world, 40, Design(20, 3, 0, chance=False, seed=900_000), 0.0)
    table = Grid("planned", "error", "measured", "ratio", title="Planned from a pilot of 40 neurons")
    for plan in plans(0.15, 0.08, len(sources), 20, spreads_of(pilot)):
        means: dict[str, list[float]] = {source.name: [] for source in sources}
        for seed in range(studies):
            design = Design(plan.raters, plan.per_neuron, 0, chance=False, seed=700_000 + seed)
            ratings, _ = _study(sources, pool, world, plan.neurons, design, 0.0)
            for name, of_one in means.items():
                of_one.append(float(np.mean([r.value for r in ratings if r.method == name])))
        measured = float(np.sqrt(np.mean([np.var(of_one, ddof=1) for of_one in means.values()])))
        name = f"{plan.neurons} neurons, {plan.per_neuron} ratings each"
        table.add_row(name, f"{plan.error:.3f}", f"{measured:.3f}", f"{measured / plan.error:.2f}")
    out.print(table)


# pictures


class Blurred:
    """A presence that is less sure of itself, and wrong more often: noise is added to its log odds."""

    def __init__(self, presence: Presence, noise: float) -> None:
        self.presence, self.noise, self.judge = presence, noise, presence.judge

    def check(self, images: ProbeSet) -> None:
        """As the presence itself."""
        self.presence.check(images)

    def key(self, images: ProbeSet) -> Key:
        """Of the presence itself: nothing is stored under it."""
        return self.presence.key(images)

    def concepts(self, images: ProbeSet) -> Sequence[str]:
        """Those of the presence itself."""
        return self.presence.concepts(images)

    def chunks(
        self, images: ProbeSet, vectors: VectorsOf, concepts: Sequence[str]
    ) -> Iterator[Float[np.ndarray, "images_of_chunk concepts"]]:
        """The same noise in every study."""
        rng = np.random.default_rng(17)
        for chunk in self.presence.chunks(images, vectors, concepts):
            odds = logit(np.clip(chunk, 1e-3, 1 - 1e-3)) / (1 + self.noise)
            yield expit(odds + self.noise * rng.standard_normal(chunk.shape)) if self.noise else chunk


def _check_pictures(
    sources: Sequence[Source], world: World, session: Session, presence: Presence, studies: int, out: Console
) -> None:
    errors = {}
    for draws in (Draws(60), Draws(60, uniform=1.0)):
        figures = _picture_figures(sources, world, session, presence, studies, draws)
        biases, ses = np.asarray([[one.bias, one.error] for one in figures]).T
        errors[draws] = float(np.mean(biases**2 + ses**2))
        out.print(
            f"{draws.n} images per label, {draws.uniform:.0%} drawn evenly: {len(figures)} labels, root mean"
            f" square error {errors[draws] ** 0.5:.4f}, mean bias {biases.mean():+.4f}, bias above an"
            f" estimate's standard error for {np.mean(np.abs(biases) > ses):.1%} of labels, coverage"
            f" {np.mean([one.coverage for one in figures]):.3f}, without an estimate"
            f" {1 - np.mean([one.n for one in figures]) / studies:.1%}"
        )
    well, evenly = errors.values()
    out.print(
        f"with as many ratings evenly drawn images have {evenly / well:.1f} times the mean square error"
    )


def _picture_figures(
    sources: Sequence[Source],
    world: World,
    session: Session,
    presence: Presence,
    studies: int,
    draws: Draws,
) -> list[Figures]:
    """Of each label: its correlation in many studies against that over all images."""
    pool = [neuron for neuron in sources[0].result.neurons if neuron.name in world.truths]
    found: dict[tuple[str, str], list[Interval]] = {}
    for seed in tqdm(range(studies), desc=f"pictures, {draws.n} images, {draws.uniform:.0%} drawn evenly"):
        samples, _ = samples_of(sources, pool, session, presence, replace(draws, seed=seed))
        design = Design(6, 3, 2, seed=seed)
        study = study_of(
            "check", sources, picture_items(samples, design), design, unlabeled={}, samples=samples
        )
        raters = crowd(len(study.pages), 0.0, seed)
        kept, _ = filtered(_given(study, raters, world, seed), study, Rules())
        present, _ = presence_of(kept, study)
        for sample in study.samples:
            one = correlation_of(sample, present)
            found.setdefault((sample.neuron, sample.label), []).append((one.mean, one.low, one.high))
    truths = {key: _true_correlation(*key, world, session) for key in found}
    return [
        Figures.of(" ".join(key), truths[key], values)
        for key, values in found.items()
        if not np.isnan(truths[key]) and np.isfinite([mean for mean, _, _ in values]).sum() > 1
    ]


def _true_correlation(neuron: str, label: str, world: World, session: Session) -> float:
    layer, _, unit = neuron.rpartition(":")
    values = np.asarray(session.activations(layer).values[:, int(unit)], float)
    shown = np.asarray([world.shows(label, image) for image in range(len(world.images))], float)
    return float(np.corrcoef(values, shown)[0, 1]) if np.ptp(shown) and np.ptp(values) else float("nan")


def _print(title: str, figures: Sequence[Figures], out: Console) -> None:
    table = Grid("estimate", "truth", "mean error", "of an SE", "SE", "coverage", title=title)
    for one in figures:
        table.add_row(
            one.name,
            f"{one.truth:.3f}",
            f"{one.bias:+.3f}",
            f"{one.bias / one.error:+.2f}" if one.error else "–",
            f"{one.error:.3f}",
            f"{one.coverage:.3f}",
        )
    out.print(table)
    coverages = [one.coverage for one in figures]
    out.print(f"mean coverage {np.mean(coverages):.3f} ({min(coverages):.3f} to {max(coverages):.3f})")


if __name__ == "__main__":
    raise SystemExit(main())
