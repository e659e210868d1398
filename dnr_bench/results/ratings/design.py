"""Who rates what, in which order: the plan of a study, from runs and a seed. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from secrets import token_hex

import numpy as np

from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.ranges import check_range
from dnr_bench.results.ratings.study import CHANCE, Item, Page, Sample, ShownLabel, Study, Turn
from dnr_bench.results.schema import NeuronResult, RunResult

#: Ratings that an attention check asks for, a label each: one that is high and one that is low.
_CHECKED = (5, 4), (1, 2)
#: Before a concept that makes a neuron fire less.
MINUS = "\N{MINUS SIGN}"
#: Pictures that a rater looks at together.
TOGETHER = 12


@dataclass(frozen=True)
class Design:
    """How large a study is.

    raters: pages, one per person. per_item: by how many of them each item is judged. checks: attention checks
    per page. chance: whether a label of another neuron is rated beside the neuron's own. seed: of everything
    that is drawn.

    Raises:
        UsageError: a number makes no sense.
    """

    raters: int = 6
    per_item: int = 3
    checks: int = 2
    chance: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        check_range(1, 10_000, raters=self.raters)
        check_range(0, 20, checks=self.checks)
        check_range(1, 1_000, per_item=self.per_item)
        if self.per_item > self.raters:
            raise UsageError(
                f"per_item={self.per_item} raters for each item cannot be had from raters={self.raters}"
            )


@dataclass(frozen=True)
class Source:
    """A run under the name of its method."""

    name: str
    result: RunResult

    def label_of(self, neuron: str) -> str:
        """What it says of a neuron; "" where nothing."""
        found = self._neurons.get(neuron)
        return said(found.labels, found.weights) if found else ""

    @cached_property
    def _neurons(self) -> Mapping[str, NeuronResult]:
        return {neuron.name: neuron for neuron in self.result.neurons}


def shared_neurons(sources: Sequence[Source], n: int | None, seed: int) -> list[NeuronResult]:
    """The neurons that all runs describe, and of which some run has a label; n: of these so many at random.

    Each layer has its share, as in the papers' studies.

    Raises:
        UsageError: there are none, or fewer than n.
    """
    names = [{neuron.name for neuron in source.result.neurons} for source in sources]
    labeled = {n.name for source in sources for n in source.result.neurons if n.labels}
    kept = set.intersection(*names) & labeled
    found = [neuron for neuron in sources[0].result.neurons if neuron.name in kept]
    if not found:
        raise UsageError(
            "the runs have no labeled neuron in common: name runs that describe the same neurons"
        )
    if n is None:
        return found
    if n > len(found):
        raise UsageError(f"--neurons {n}: the runs have {len(found)} labeled neurons in common")
    by_layer: dict[str, list[int]] = {}
    for place, neuron in enumerate(found):
        by_layer.setdefault(neuron.layer, []).append(place)
    rng = np.random.default_rng(seed)
    shuffled = [list(rng.permutation(places)) for places in by_layer.values()]
    ranked = sorted((rank / len(of_one), place) for of_one in shuffled for rank, place in enumerate(of_one))
    return [found[place] for place in sorted(int(place) for _, place in ranked[:n])]


def label_items(
    sources: Sequence[Source], neurons: Sequence[NeuronResult], pictures: Mapping[str, int], design: Design
) -> list[Item]:
    """An item per neuron: the labels of all methods. pictures: how many each neuron's montage has."""
    rng = np.random.default_rng([design.seed, 1])
    items: list[Item] = []
    for place in rng.permutation(len(neurons)):  # ids do not tell the order of neurons
        neuron = neurons[place]
        said = [(source.name, source.label_of(neuron.name)) for source in sources]
        texts = _merged([(name, text) for name, text in said if text])
        if design.chance and (other := _other_label(sources, neurons, int(place), texts, rng)):
            texts[other] = (other, (CHANCE,))
        order = rng.permutation(len(texts))
        labels = [list(texts.values())[i] for i in order]
        number = len(items)
        items.append(
            Item(
                f"i{number}",
                "ratings",
                f"m{number}",
                pictures[neuron.name],
                tuple(ShownLabel(f"l{n}", text, methods) for n, (text, methods) in enumerate(labels)),
                neuron.name,
                neuron.layer,
            )
        )
    return items


def picture_items(samples: Sequence[Sample], design: Design) -> list[Item]:
    """Items of up to twelve pictures of one label. A picture that several neurons ask about is shown once."""
    rng = np.random.default_rng([design.seed, 1])
    asked: dict[str, dict[int, None]] = {}
    methods: dict[str, dict[str, None]] = {}
    for sample in samples:
        asked.setdefault(sample.label, {}).update(dict.fromkeys(sample.images))
        methods.setdefault(sample.label, {}).update(dict.fromkeys(sample.methods))
    parts = []
    for label, images in asked.items():
        mixed = [int(image) for image in rng.permutation(list(images))]
        n = -(-len(mixed) // TOGETHER)
        parts += [(label, tuple(map(int, part))) for part in np.array_split(mixed, n)]
    return [
        Item(
            f"i{number}",
            "pictures",
            f"m{number}",
            len(parts[place][1]),
            (ShownLabel("l0", parts[place][0], tuple(methods[parts[place][0]])),),
            images=parts[place][1],
        )
        for number, place in enumerate(rng.permutation(len(parts)))
    ]


def study_of(
    title: str,
    sources: Sequence[Source],
    items: Sequence[Item],
    design: Design,
    *,
    unlabeled: Mapping[str, tuple[str, ...]],
    samples: Sequence[Sample] = (),
    code: str = "",
) -> Study:
    """Deal the items to pages, each in an order of its own, with attention checks among them.

    Ids of pages are no numbers and come from no seed, so that nobody finds another rater's page.

    Raises:
        UsageError: some raters would have nothing to do.
    """
    work = len(items) * design.per_item
    if design.raters > work:
        raise UsageError(
            f"--raters {design.raters}: {len(items)} items, each for {design.per_item}, are work for {work}"
            " at most"
        )
    rng = np.random.default_rng([design.seed, 2])
    dealt = _dealt(len(items), design, rng)
    checks = _checks(items, design, rng)
    pages = []
    for number, own in enumerate(dealt):
        turns = [_turn(items[place], rng) for place in rng.permutation(own).astype(int)]
        own_checks = checks[number * design.checks : (number + 1) * design.checks]
        for k, check in enumerate(own_checks):  # evenly among the others, never first
            turns.insert(1 + round((k + 0.5) * len(own) / design.checks) + k, _turn(check, rng))
        pages.append(Page(token_hex(8), tuple(turns)))
    methods = [source.name for source in sources]
    if any(CHANCE in label.methods for item in items for label in item.labels):
        methods.append(CHANCE)
    return Study(
        title,
        tuple(methods),
        (*items, *checks),
        tuple(pages),
        tuple(samples),
        dict(unlabeled),
        code,
    )


def unlabeled_of(sources: Sequence[Source], neurons: Sequence[NeuronResult]) -> dict[str, tuple[str, ...]]:
    """By method the neurons that it has no label for."""
    return {source.name: tuple(n.name for n in neurons if not source.label_of(n.name)) for source in sources}


def said(labels: Sequence[str], weights: Sequence[float]) -> str:
    """What people see of a neuron's labels: the first one; of a weighted sum all concepts, with their signs.

    "" where there is none.
    """
    if not labels:
        return ""
    parts = [labels[0] if not weights or weights[0] >= 0 else f"{MINUS} {labels[0]}"]
    for text, weight in zip(labels[1:], weights[1:], strict=False):
        parts.append(f"{'+' if weight >= 0 else MINUS} {text}")
    return " ".join(" ".join(parts).split())


def plain(text: str) -> str:
    """A label by which those that say the same are told: without case and spaces."""
    return " ".join(text.lower().split())


def _merged(said: Sequence[tuple[str, str]]) -> dict[str, tuple[str, tuple[str, ...]]]:
    """By plain text: the text, and the methods that say it."""
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    for name, text in said:
        shown, methods = found.get(plain(text), (text, ()))
        found[plain(text)] = (shown, (*methods, name))
    return found


def _other_label(
    sources: Sequence[Source],
    neurons: Sequence[NeuronResult],
    place: int,
    own: Mapping[str, object],
    rng: np.random.Generator,
) -> str:
    """A label that some method gave another neuron, unlike those of this one; "" where there is none."""
    for other in rng.permutation(len(neurons)):
        text = sources[int(rng.integers(len(sources)))].label_of(neurons[other].name)
        if other != place and text and plain(text) not in own:
            return text
    return ""


def _dealt(n: int, design: Design, rng: np.random.Generator) -> list[list[int]]:
    """The items of each page: every item on `per_item` pages, no page with more than one above another."""
    pages: list[list[int]] = [[] for _ in range(design.raters)]
    for place in rng.permutation(n):
        ties = rng.random(design.raters)
        order = sorted(range(design.raters), key=lambda page: (len(pages[page]), ties[page]))
        for page in order[: design.per_item]:
            pages[page].append(int(place))
    return pages


def _checks(items: Sequence[Item], design: Design, rng: np.random.Generator) -> list[Item]:
    found: list[Item] = []
    for _ in range(design.raters * design.checks):
        shown = items[int(rng.integers(len(items)))]
        number = len(items) + len(found)
        if shown.asks == "ratings":
            wanted = tuple(int(rng.choice(pair)) for pair in _CHECKED)
            texts = [f"Attention check: please give this description a {rating}" for rating in wanted]
        else:
            chosen = sorted(rng.choice(shown.pictures, size=min(2, shown.pictures), replace=False))
            wanted = tuple(int(place) for place in chosen)
            places = " and picture ".join(str(place + 1) for place in wanted)
            texts = [f"picture {places}, which checks whether people read"]
        labels = tuple(ShownLabel(f"l{n}", text) for n, text in enumerate(texts))
        found.append(
            replace(shown, id=f"i{number}", labels=labels, neuron="", layer="", images=(), expected=wanted)
        )
    return found


def _turn(item: Item, rng: np.random.Generator) -> Turn:
    return Turn(item.id, tuple(item.labels[i].id for i in rng.permutation(len(item.labels))))
