"""Simulated raters of the shapes world: they know units and images, and err."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dnr_bench.infra.planted import PlantedTruth
from dnr_bench.results.ratings.answers import FORMAT
from dnr_bench.results.ratings.study import SCALE, Item, Page, Study
from dnr_bench.shapes.concepts import parse
from dnr_bench.statistics.matching import attribute_scores

Care = Literal["careful", "random", "same", "hasty"]


@dataclass(frozen=True)
class Rater:
    """One simulated person.

    kindness: added to every rating. noise: the standard deviation within ratings. misjudges: the share of
    pictures of which the rater says the opposite. care: careful; or random answers, the same answer to
    everything, or random answers within a second.
    """

    kindness: float
    noise: float
    misjudges: float
    care: Care = "careful"


@dataclass(frozen=True)
class World:
    """What raters can see: how well a label fits a neuron, and which images show a label.

    truths: the planted concept of each neuron. images: the attributes of each probing image.
    """

    truths: Mapping[str, str]
    images: Sequence[frozenset[str]] = ()

    @classmethod
    def of(cls, planted: Sequence[PlantedTruth], images: Sequence[frozenset[str]] = ()) -> World:
        """The units of planted.json that detect something."""
        return cls({str(unit.neuron): unit.concept for unit in planted if unit.concept}, images)

    def worth(self, neuron: str, label: str) -> float:
        """F1 of the attributes that a label names, as the evaluator `planted` counts them."""
        truth = self.truths.get(neuron.rpartition("#")[2], "")
        said, true = parse(label), parse(truth)
        if not said.alternatives or not true.alternatives:
            return 0.0
        alternatives = list(true.alternatives)
        return attribute_scores(list(said.alternatives), alternatives, [1.0] * len(alternatives))[2]

    def shows(self, label: str, image: int) -> bool:
        """Whether an image shows a label."""
        return parse(label).matches(self.images[image])


def crowd(n: int, careless: float, seed: int) -> list[Rater]:
    """n raters, of whom each is careless with this chance."""
    rng = np.random.default_rng([seed, 11])
    kinds: tuple[Care, ...] = ("random", "same", "hasty")
    return [
        Rater(
            float(rng.normal(0, 0.3)),
            0.7,
            float(rng.uniform(0.01, 0.1)),
            kinds[int(rng.integers(3))] if rng.random() < careless else "careful",
        )
        for _ in range(n)
    ]


def page_answers(study: Study, page: Page, rater: Rater, world: World, seed: int) -> str:
    """What a rater's page posts."""
    rng = np.random.default_rng([seed, study.pages.index(page)])
    straight = int(rng.choice(SCALE))
    said = []
    for turn in page.turns:
        item = study.by_item[turn.item]
        seconds = round(float(rng.uniform(0.2, 0.9) if rater.care == "hasty" else rng.gamma(6, 1.5) + 2.5), 1)
        base = {"item": item.id, "seconds": seconds}
        if item.asks == "pictures":
            said.append({**base, "chosen": _chosen(item, rater, world, rng)})
        else:
            ratings, best = _rated(item, rater, world, straight, rng)
            said.append({**base, "ratings": ratings, "best": best})
    return json.dumps({"format": FORMAT, "study": study.id, "page": page.id, "rater": "", "answers": said})


def _rated(
    item: Item, rater: Rater, world: World, straight: int, rng: np.random.Generator
) -> tuple[dict[str, int], str]:
    names = [label.id for label in item.labels]
    if rater.care == "careful" and item.is_check:
        values = np.asarray(item.expected, float)
    elif rater.care == "careful":
        worth = np.asarray([world.worth(item.neuron, label.text) for label in item.labels])
        noise = rng.normal(0, rater.noise, len(names))
        values = SCALE[0] + (SCALE[-1] - SCALE[0]) * worth + rater.kindness + noise
    elif rater.care == "same":
        values = np.full(len(names), float(straight))
    else:
        values = rng.integers(SCALE[0], SCALE[-1] + 1, len(names)).astype(float)
    ratings = np.clip(np.rint(values), SCALE[0], SCALE[-1]).astype(int)
    highest = np.flatnonzero(ratings == ratings.max())
    best = int(rng.choice(highest[values[highest] == values[highest].max()]))
    return dict(zip(names, ratings.tolist(), strict=True)), names[best]


def _chosen(item: Item, rater: Rater, world: World, rng: np.random.Generator) -> list[int]:
    if rater.care == "careful" and item.is_check:
        return list(item.expected)
    if rater.care == "careful":
        true = np.asarray([world.shows(item.labels[0].text, image) for image in item.images])
        said = true ^ (rng.random(item.pictures) < rater.misjudges)
    elif rater.care == "same":
        said = np.zeros(item.pictures, bool)
    else:
        said = rng.random(item.pictures) < 0.5
    return [int(place) for place in np.flatnonzero(said)]
