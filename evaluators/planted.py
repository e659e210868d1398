"""Labels of planted units against their truth: the one evaluator that knows what a neuron detects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Float

from dnr_bench.data.explanation import Description, Explanation
from dnr_bench.data.neuron import Neuron
from dnr_bench.data.scorecard import Scorecard
from dnr_bench.infra.errors import NothingToJudgeError
from dnr_bench.infra.planted import PlantedTruth, read_planted
from dnr_bench.protocols import Scorer, Target
from dnr_bench.session import Evaluator, Session
from dnr_bench.shapes.concepts import FACET_OF, FACETS, NOT, Concept, facet_of, parse
from dnr_bench.statistics.controls import shuffled_mean, word_controls
from dnr_bench.statistics.matching import attribute_scores, mid_rank

#: Concepts in the pool of `reciprocal_rank`, the truth included.
POOL_SIZE = 10
_NOTHING = Concept(frozenset())
#: A concept is an exception to another one if it takes back at least this share of what that adds.
TAKEN_BACK = 0.5
#: Of metrics that are no shares of units.
_UNITS = {
    "exact": "correct",
    "attribute_precision": "precision",
    "attribute_recall": "recall",
    "attribute_f1": "F1",
}


@dataclass(frozen=True)
class Truth:
    """A planted concept, and how far each alternative of it drives the unit (1 where nothing is said)."""

    concept: Concept
    weights: Mapping[frozenset[str], float] = field(default_factory=dict)

    @classmethod
    def of(cls, planted: PlantedTruth) -> Truth:
        """What planted.json says of a unit."""
        parts = [parse(part) for part in planted.concept.split(" or ")] if planted.weights else []
        weights = {
            alternative: weight
            for part, weight in zip(parts, planted.weights, strict=True)
            for alternative in part.alternatives
        }
        return cls(parse(planted.concept), weights)

    def attributes(self, label: Concept) -> tuple[float, float, float]:
        """Precision, recall and F1 of the attributes that a label names; recall by weight."""
        alternatives = list(self.concept.alternatives)
        weights = [self.weights.get(alternative, 1.0) for alternative in alternatives]
        return attribute_scores(list(label.alternatives), alternatives, weights)


@dataclass(frozen=True)
class _Unit:
    planted: PlantedTruth
    explanation: Explanation

    @property
    def kind(self) -> str:
        return self.planted.kind

    @property
    def neuron(self) -> Neuron:
        return self.planted.neuron

    @cached_property
    def truth(self) -> Truth:
        return Truth.of(self.planted)

    @cached_property
    def label(self) -> Concept:
        return label_concept(self.explanation, self.truth)

    @cached_property
    def answers(self) -> tuple[Concept, Concept] | None:
        """The concepts of the answers before and after refinement; None where nothing was refined."""
        record = self.explanation.refinement
        return (parse(record.answers[0]), parse(record.answers[-1])) if record else None

    @cached_property
    def candidates(self) -> list[Concept]:
        return [parse(candidate.text) for candidate in self.explanation.candidates]


class Planted(Evaluator):
    """exact, attribute precision, recall and F1, candidates, choice, reciprocal rank, gain, abstention.

    Where a neuron has several labels the first one counts, and for units that detect alternatives all of them
    together; further_wrong says how many of the others are wrong.

    What is not exact is one of three: too_narrow (the label implies the truth: "solid square" for "square",
    "red" for "red or blue"), too_wide (the truth implies the label: "circle" for "circle but not red"), or
    wrong. A graded unit (full on one concept, half on another) detects both: a label is exact that names
    both, and attribute_recall counts the second one half.

    `truth` is a target's checkpoint directory with planted.json: layer, unit, kind and concept of each
    planted unit; without that file it has nothing to say. `reciprocal_rank` draws images of ten concepts per
    unit, which `scorer` ranks. Words of a label that name no attribute of the world count neither for nor
    against it.
    """

    def __init__(self, truth: str | None, reciprocal_rank: bool, scorer: Scorer) -> None:
        self.units = {unit.neuron: unit for unit in read_planted(truth)}
        self.with_pools, self.scorer = reciprocal_rank, scorer

    def check(self, neurons: Sequence[Neuron], target: Target) -> None:
        """Some neuron must be one whose truth is known."""
        if not set(neurons) & self.units.keys():
            raise NothingToJudgeError(
                "it knows what the units of the embedded target detect, and none of these. Of a network of"
                " your own fc_layer judges units that have names (classes), held_out any unit, on pictures"
                " that explain none, and label_agreement two runs: evaluator=[fc_layer,held_out]"
            )

    def truth(self, neurons: Sequence[Neuron], target: Target) -> dict[Neuron, str | None]:
        """The planted concept of each unit; None where a unit detects nothing, or nothing with a name."""
        return {neuron: unit.concept or None for neuron, unit in self.units.items()}

    def judged(self, description: Description, session: Session) -> list[Scorecard]:
        """The metrics of label against truth."""
        named = [unit for unit in self._found(description) if unit.truth.concept != _NOTHING]
        return _text_cards(named) if named else []

    def _found(self, description: Description) -> list[_Unit]:
        return [_Unit(self.units[e.neuron], e) for e in description.explanations if e.neuron in self.units]

    def evaluate(self, description: Description, session: Session) -> list[Scorecard]:
        """The metrics over all planted units, and the main ones for each kind of unit."""
        found = self._found(description)
        named = [unit for unit in found if unit.truth.concept != _NOTHING]
        nothing = [unit for unit in found if unit.truth.concept == _NOTHING]
        proposed = [unit for unit in named if any(c.origin != "method" for c in unit.explanation.candidates)]
        cards = [*_text_cards(named)] if named else []
        if proposed:  # labels of another method have no candidates to choose from
            cards += _candidate_cards(named)
        if named and self.with_pools:
            cards.append(_reciprocal_rank(named, self.scorer, session))
        if refined := [unit for unit in named if unit.answers and not unit.explanation.unscored]:
            cards += _gain_cards(refined)
        if several := [unit for unit in named if len(said_labels(unit.explanation)) > 1]:
            cards.append(_further_labels(several))
        if nothing:
            cards += _abstention(nothing, found)
        return cards


def label_concept(explanation: Explanation, truth: Truth) -> Concept:
    """The concept of a neuron's label; for units with alternatives, of all labels together.

    Of a weighted sum the concepts that raise the activation count. One that takes back most of what another
    adds is an exception: "3.2 green - 3.1 green cross" is green but not cross.
    """
    labels, several = said_labels(explanation), len(truth.concept.alternatives) > 1
    return union([parse(label) for label in (labels if several else labels[:1])])


def said_labels(explanation: Explanation) -> Sequence[str]:
    """The labels; of a weighted sum what raises the activation."""
    if explanation.weights:
        return raising(explanation.labels, explanation.weights)
    return explanation.labels


def raising(labels: Sequence[str], weights: Sequence[float]) -> list[str]:
    """The concepts of a weighted sum that raise the activation, with their exceptions, in order."""
    parsed = [parse(label) for label in labels]
    found = []
    for label, concept, weight in zip(labels, parsed, weights, strict=True):
        if weight <= 0:
            continue
        excepted = [
            attribute
            for other, less in zip(parsed, weights, strict=True)
            if less <= -TAKEN_BACK * weight and other.implies(concept) and len(concept.alternatives) == 1
            for attribute in sorted(other.attributes - concept.attributes)
            if len(other.attributes - concept.attributes) == 1 and not attribute.startswith(NOT)
        ]
        found.append(" but ".join([label, *(NOT + attribute for attribute in excepted)]))
    return found


def exact(label: Concept, truth: Concept) -> float:
    """1 where a label names the truth, nothing less and nothing more."""
    return float(label == truth)


def too_narrow(label: Concept, truth: Concept) -> float:
    """1 where a label says more than the truth, or only one of its alternatives."""
    return float(label != truth and label.implies(truth))


def too_wide(label: Concept, truth: Concept) -> float:
    """1 where a label leaves out what the truth asks for, or adds an alternative."""
    return float(label != truth and truth.implies(label))


def wrong(label: Concept, truth: Concept) -> float:
    """1 where neither label nor truth implies the other."""
    return float(not label.implies(truth) and not truth.implies(label))


def concept_pool(truth: Concept, rng: np.random.Generator, size: int = POOL_SIZE) -> list[Concept]:
    """The truth first, then concepts that are easily taken for it: wider, narrower, and beside it."""
    wider = [Concept.of(a - {attribute}) for a in truth.alternatives if len(a) > 1 for attribute in a]
    wider += [Concept.of(a) for a in truth.alternatives] if len(truth.alternatives) > 1 else []
    facets = {facet_of(attribute) for attribute in truth.attributes}
    free = [attribute for attribute, facet in FACET_OF.items() if facet not in facets]
    narrower = [Concept.of(*(a | {attribute} for a in truth.alternatives)) for attribute in free]
    beside = [
        Concept.of(*(_swapped(a, old, new) for a in truth.alternatives))
        for old in sorted(truth.attributes)
        if not old.startswith(NOT)
        for new in FACETS[FACET_OF[old]]
        if new not in truth.attributes and NOT + new not in truth.attributes
    ]
    rng.shuffle(narrower)
    rng.shuffle(beside)
    rivals = sorted(set(wider), key=str)[:3] + narrower[:3] + beside + narrower[3:]
    return [truth, *dict.fromkeys(rival for rival in rivals if rival != truth)][:size]


def union(concepts: Sequence[Concept]) -> Concept:
    """All alternatives of several concepts."""
    return Concept(frozenset[frozenset[str]]().union(*(concept.alternatives for concept in concepts)))


def _swapped(alternative: frozenset[str], old: str, new: str) -> frozenset[str]:
    return (alternative - {old}) | {new} if old in alternative else alternative


def scored(label: Concept, truth: Truth) -> dict[str, float]:
    """All metrics of a label against a truth."""
    precision, recall, both = truth.attributes(label)
    return {
        "exact": exact(label, truth.concept),
        "attribute_precision": precision,
        "attribute_recall": recall,
        "attribute_f1": both,
        "too_narrow": too_narrow(label, truth.concept),
        "too_wide": too_wide(label, truth.concept),
        "wrong": wrong(label, truth.concept),
    }


def _text_cards(units: Sequence[_Unit]) -> list[Scorecard]:
    """Metrics of label against truth, over all units and by kind."""
    kinds = list(dict.fromkeys(unit.kind for unit in units))
    labels, truths = [unit.label for unit in units], [unit.truth for unit in units]
    words = [Concept.of([attribute]) for attribute in FACET_OF]
    everything = list(range(len(units)))
    cards = []
    of_words = _tables(words, truths)
    for name, table in _tables(labels, truths).items():
        table[:, [unit.explanation.unscored is not None for unit in units]] = np.nan
        by_word = of_words[name]
        groups = {name: everything}
        if name in ("exact", "attribute_f1"):
            groups |= {f"{name}.{kind}": [i for i in everything if units[i].kind == kind] for kind in kinds}
        labeled = _scored(table)
        for group, members in groups.items():
            mine = sorted(set(labeled) & set(members))
            one_sided = name in ("too_narrow", "too_wide")  # neither high nor low is good by itself
            higher_is_better = not (one_sided or name == "wrong")
            cards.append(
                _card(
                    group,
                    [units[i] for i in members],
                    np.diagonal(table)[members].copy(),
                    shuffled_mean(table, mine),
                    unit=_UNITS.get(name, "share"),
                    headline=group in ("exact", "attribute_f1", "wrong"),
                    part_of="" if group == name else f"planted.{name}",
                    controls={} if one_sided else word_controls(by_word[mine or members], higher_is_better),
                    higher_is_better=higher_is_better,
                    oracle=None if one_sided else float(higher_is_better),
                )
            )
    return cards


def _tables(
    labels: Sequence[Concept], truths: Sequence[Truth]
) -> dict[str, Float[np.ndarray, "truths labels"]]:
    """The metrics of every label against every truth; equal labels are held against a truth once."""
    distinct = {label: place for place, label in enumerate(dict.fromkeys(labels))}
    columns = [distinct[label] for label in labels]
    rows = [[list(scored(label, truth).values()) for label in distinct] for truth in truths]
    values = np.asarray(rows, float)[:, columns]
    names = scored(Concept(frozenset()), truths[0])
    return {name: values[:, :, place] for place, name in enumerate(names)}


def _candidate_cards(units: Sequence[_Unit]) -> list[Scorecard]:
    """Whether the truth was proposed, and whether it was then chosen."""
    proposed = np.asarray(
        [
            [float(u.truth.concept in other.candidates) if other.candidates else np.nan for other in units]
            for u in units
        ]
    )
    present = np.diagonal(proposed)
    chosen = np.asarray([exact(unit.label, unit.truth.concept) for unit in units])
    luck = [1 / len(unit.candidates) for unit, there in zip(units, present, strict=True) if there > 0]
    return [
        _card(
            "truth_in_candidates",
            units,
            present.copy(),
            shuffled_mean(proposed, _scored(proposed)),
            headline=True,
        ),
        _card(
            "chosen_given_present",
            units,
            np.where(present > 0, chosen, np.nan),
            float(np.mean(luck)) if luck else None,
        ),
    ]


def _gain_cards(units: Sequence[_Unit]) -> list[Scorecard]:
    """How much nearer to the truth refined labels are than the unrefined answers of the same neurons."""
    cards = []
    for name in ("exact", "attribute_f1"):
        gains = [
            scored(u.answers[1], u.truth)[name] - scored(u.answers[0], u.truth)[name]
            for u in units
            if u.answers
        ]
        values = np.asarray(gains, float)
        cards.append(_card(f"{name}_gain", units, values, 0.0, oracle=None, signed=True, headline=True))
    return cards


def _further_labels(units: Sequence[_Unit]) -> Scorecard:
    """The share of a unit's labels after the first that are wrong."""
    values = [
        np.mean([wrong(parse(label), u.truth.concept) for label in said_labels(u.explanation)[1:]])
        for u in units
    ]
    return _card("further_wrong", units, np.asarray(values), None, higher_is_better=False, oracle=0.0)


def _reciprocal_rank(units: Sequence[_Unit], scorer: Scorer, session: Session) -> Scorecard:
    """1 / rank of the truth in a fixed pool with its super-, sub- and sibling concepts."""
    pools: dict[Neuron, list[Concept]] = {}
    for unit in units:
        rng = np.random.default_rng([11, unit.neuron.unit])
        pools[unit.neuron] = concept_pool(unit.truth.concept, rng)
        rng.shuffle(pools[unit.neuron])  # the truth has no place of its own, which a scorer might prefer
    scores = session.scores(
        {neuron: [str(concept) for concept in pool] for neuron, pool in pools.items()}, scorer
    )
    values = [
        1 / mid_rank(scores[u.neuron], pools[u.neuron].index(u.truth.concept))
        if u.neuron in scores
        else np.nan
        for u in units
    ]
    luck = [float(np.mean(1 / np.arange(1, len(pool) + 1))) for pool in pools.values()]
    return _card(
        "reciprocal_rank",
        units,
        np.asarray(values),
        float(np.mean(luck)),
        unit="reciprocal rank",
        headline=True,
    )


def _abstention(nothing: Sequence[_Unit], units: Sequence[_Unit]) -> list[Scorecard]:
    """Whether units that detect nothing nameable got no label, and by kind where there are nameless ones."""
    rate = float(np.mean([unit.explanation.unscored is not None for unit in units]))
    kinds = sorted({unit.kind for unit in nothing})
    groups = {"abstained_correctly": list(nothing)}
    if "nameless" in kinds:
        groups |= {f"abstained_correctly.{kind}": [u for u in nothing if u.kind == kind] for kind in kinds}
    return [
        _card(
            group,
            members,
            np.asarray([float(unit.explanation.unscored is not None) for unit in members]),
            rate,
            part_of="planted.abstained_correctly" if "." in group else "",
        )
        for group, members in groups.items()
    ]


def _card(
    metric: str,
    units: Sequence[_Unit],
    values: Float[np.ndarray, " units"],
    chance: float | None,
    controls: Mapping[str, float] | None = None,
    higher_is_better: bool = True,
    oracle: float | None = 1.0,
    signed: bool = False,
    unit: str = "share",
    headline: bool = False,
    part_of: str = "",
) -> Scorecard:
    return Scorecard.of_neurons(
        "planted",
        metric,
        [unit.explanation for unit in units],
        values,
        higher_is_better=higher_is_better,
        chance=chance,
        oracle=oracle,
        controls=controls,
        signed=signed,
        unit=unit,
        headline=headline,
        part_of=part_of,
    )


def _scored(table: Float[np.ndarray, "units labels"]) -> list[int]:
    """The units whose own label was scored."""
    return np.flatnonzero(~np.isnan(np.diagonal(table))).tolist()
