"""Findings of an evaluator: metrics with a value per item, and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float

from dnr_bench.data.explanation import Explanation


@dataclass(frozen=True)
class Plot:
    """How a table is drawn: `y` over `x`, a line for each combination of values of the columns `series`.

    kind: lines, or a bar for each row, the highest first, colored by `series`; of many rows the highest; or
    frontier, a point for each row, named by `series`, of a cost x and a quality y: the best for each cost are
    joined.
    """

    x: str
    y: str
    series: tuple[str, ...]
    title: str
    kind: Literal["lines", "bars", "frontier"] = "lines"

    @property
    def name(self) -> str:
        """For files: what is drawn, and over what where that is no setting."""
        return f"{self.y} over {self.x}" if self.kind == "frontier" else self.y


@dataclass(frozen=True)
class Table:
    """Rows of plain values that an evaluator adds to its metrics, and how to draw them."""

    name: str
    rows: Sequence[Mapping[str, object]]
    plot: Plot | None = None


ItemKind = Literal["neuron", "class", "image", "pair", "run"]


@dataclass(frozen=True)
class Scorecard:
    """One metric of one evaluator: a value per item, NaN where an item is unscored.

    group, metric: the evaluator's name and the metric's within it; `name` joins both with a dot.
    headline: whether the metric belongs in short tables, plots, comparisons and the gate; details are kept in
    result.json and in the full tables.
    unit: what a value is: share, cosine, F1, AUROC, seconds ...; "correct" is 1 where the item's label is
    right and 0 where it is wrong.
    higher_is_better: None for what only describes.
    items, values: a metric of the whole run has one item, and no interval.
    clusters: items whose values are not independent (same label, same images) have the same name here.
    part_of: the name of the metric that this one repeats for some of its items only; "" for all others.
    chance, oracle: the metric's means for shuffled and for true labels; `controls` hold further baselines.
    signed: values are differences, 0 where there is none.
    judge: the model by which values were given, where they compare with no other model's.
    """

    group: str
    metric: str
    unit: str
    higher_is_better: bool | None
    item_kind: ItemKind
    items: Sequence[str]
    values: Float[np.ndarray, " items"]
    clusters: Sequence[str]
    headline: bool = False
    part_of: str = ""
    chance: float | None = None
    oracle: float | None = None
    controls: Mapping[str, float] = field(default_factory=dict)
    signed: bool = False
    judge: str = ""

    @property
    def name(self) -> str:
        """The metric's name in results: group.metric."""
        return f"{self.group}.{self.metric}"

    @classmethod
    def of_neurons(
        cls,
        group: str,
        metric: str,
        explanations: Sequence[Explanation],
        values: Sequence[float] | Float[np.ndarray, " neurons"],
        *,
        unit: str,
        higher_is_better: bool | None,
        headline: bool = False,
        part_of: str = "",
        chance: float | None = None,
        oracle: float | None = None,
        controls: Mapping[str, float] | None = None,
        signed: bool = False,
        judge: str = "",
        unscored: Sequence[Explanation] = (),
    ) -> Scorecard:
        """A value per neuron, none for `unscored`; neurons with the same labels are one cluster."""
        explanations = [*explanations, *unscored]
        values = np.concatenate([np.asarray(values, float), np.full(len(unscored), np.nan)])
        return cls(
            group=group,
            metric=metric,
            unit=unit,
            higher_is_better=higher_is_better,
            item_kind="neuron",
            items=[str(explanation.neuron) for explanation in explanations],
            values=np.asarray(values, float),
            clusters=[explanation.cluster for explanation in explanations],
            headline=headline,
            part_of=part_of,
            chance=chance,
            oracle=oracle,
            controls=controls or {},
            signed=signed,
            judge=judge,
        )
