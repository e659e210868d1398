"""Explanations as simulations: do they predict the activation on images that explained nothing?

Linear Explanations (Oikarinen and Weng 2024, section 4): the correlation of the simulated with the true
activation of held-out images, and what it does to the classes when the simulation takes the neuron's place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from dnr_bench.data.explanation import Description, Explanation
from dnr_bench.data.images import ProbeSet, VectorsOf
from dnr_bench.data.neuron import Neuron
from dnr_bench.data.scorecard import Scorecard
from dnr_bench.infra.digests import Key
from dnr_bench.infra.ranges import check_range
from dnr_bench.infra.source import code_of
from dnr_bench.presences.clip import ClipPresence
from dnr_bench.probes.subset import subset
from dnr_bench.protocols import Presence, Probe, Steerable
from dnr_bench.session import Evaluator, Session
from dnr_bench.statistics.controls import shuffled_mean
from dnr_bench.statistics.detection import correlation
from dnr_bench.statistics.formulas import formula_presence, formula_words
from evaluators.label_tables import mean_known
from evaluators.text_agreement import able

#: Neurons that are moved before others may be claimed by another process.
_NEURONS = 256
#: A sum of concepts: texts and weights.
Sum = tuple[tuple[str, ...], tuple[float, ...]]


class Simulation(Evaluator):
    """correlation and ablation of each labeled neuron.

    The simulated activation is the weighted sum of the presence of concepts; of a method that gives no
    weights the presence of the (first) label. "A or B" is present as far as either is, "A and B" as far as
    both, "A but not B" as far as A is and B is not.

    correlation: Pearson's r over held-out images. ablation: on `ablation_images` of them the simulation,
    scaled to the neuron by probing images, takes the place of its activation; 1 minus how far the network's
    last layer moves, as a share of how far it moves when the mean activation takes that place. 1: nobody
    notices; 0: no better than the mean; -1, the least: twice as far. Neurons of the last layer, and those
    whose mean changes nothing, have none.

    Of the correlation, chance: explanations of other neurons; oracle: the presence of the true label.
    """

    def __init__(self, images: Probe, presence: Presence, ablation_images: int) -> None:
        check_range(0, 100_000, ablation_images=ablation_images)
        self.images, self.presence, self.ablation_images = images, presence, ablation_images

    def check_images(self, session: Session) -> None:
        """Its images must not be the run's own, and it must be known what they and the run's show."""
        images = self.images.load(session.seed)
        session.held_out.check(images)
        self.presence.check(images)
        if self.ablation_images and session.probe.images:
            self.presence.check(session.probe)

    def judged(self, description: Description, session: Session) -> list[Scorecard]:
        """The correlation."""
        found = self._looked_at(description, session)
        return [found.correlation_card(description)] if found else []

    def evaluate(self, description: Description, session: Session) -> list[Scorecard]:
        """A card for each metric; none where CLIP does not know the labels, or no neuron has one."""
        found = self._looked_at(description, session)
        if found is None:
            return []
        cards = [found.correlation_card(description)]
        last = session.target.layers()[-1].name
        movable = [e for e in found.explanations if e.neuron.layer != last]
        steered = isinstance(session.target, Steerable) and session.probe.images
        if self.ablation_images and movable and steered:
            fitting = self._predicted(session.probe, session.probe_vectors, found.own_sums)
            values = found.ablation(fitting, self.ablation_images, last, session)
            cards.append(found.card("ablation", values, description, unit="share", chance=None, oracle=1.0))
        return cards

    def _looked_at(self, description: Description, session: Session) -> _Simulated | None:
        labeled = [e for e in description.explanations if e.labels]
        texts = formula_words([text for e in labeled for text in e.labels])
        seen_by_clip = isinstance(self.presence, ClipPresence)
        if not labeled or (seen_by_clip and not able(session.encoder, texts, "simulation", session)):
            return None
        images = self.images.load(session.seed)
        true: dict[str, Sum] = {
            str(e.neuron): ((description.truth[e.neuron],), (1.0,))
            for e in labeled
            if e.neuron in description.truth
        }
        sums = list(dict.fromkeys([*map(sum_of, labeled), *true.values()]))
        predicted = self._predicted(images, lambda: session.held_out.vectors(images), sums)
        activations = session.held_out.activations(images)
        values = np.stack(
            [np.asarray(activations[e.neuron.layer].values[:, e.neuron.unit], float) for e in labeled], axis=1
        )
        return _Simulated(labeled, true, sums, images, values, predicted, self.presence.judge)

    def _predicted(
        self, images: ProbeSet, vectors: VectorsOf, sums: Sequence[Sum]
    ) -> Float[np.ndarray, "images sums"]:
        """Each sum on each image, up to a factor and a shift."""
        labels = list(dict.fromkeys(text for concepts, _ in sums for text in concepts))
        place = {text: row for row, text in enumerate(labels)}
        weights = np.zeros((len(labels), len(sums)))
        for column, (concepts, own) in enumerate(sums):
            np.add.at(weights[:, column], [place[text] for text in concepts], own)
        words = formula_words(labels)
        column_of = {text: column for column, text in enumerate(words)}
        found = [
            np.stack([formula_presence(label, chunk, column_of) for label in labels], axis=1) @ weights
            for chunk in self.presence.chunks(images, vectors, words)
        ]
        return np.concatenate(found, axis=0)


@dataclass(frozen=True)
class _Simulated:
    """The labeled neurons, and what all explanations predict of held-out and of probing images."""

    explanations: Sequence[Explanation]
    true: Mapping[str, Sum]
    sums: Sequence[Sum]
    images: ProbeSet
    values: Float[np.ndarray, "images neurons"]
    predicted: Float[np.ndarray, "images sums"]
    judge: str

    @cached_property
    def places(self) -> dict[Sum, int]:
        """The column of each sum."""
        return {found: column for column, found in enumerate(self.sums)}

    @cached_property
    def own_sums(self) -> list[Sum]:
        """The distinct sums of the neurons, without truths."""
        return list(dict.fromkeys(map(sum_of, self.explanations)))

    @cached_property
    def own(self) -> list[int]:
        """The column of each neuron's sum."""
        return [self.places[sum_of(e)] for e in self.explanations]

    def correlation_card(self, description: Description) -> Scorecard:
        """Correlations of each neuron with its own explanation, with others', and with the truth."""
        table = np.nan_to_num(correlation(self.values, self.predicted))  # a sum that is constant says nothing
        constant = self.values.std(axis=0) < 1e-12
        table[constant] = np.nan
        own = self.own
        known = [
            table[row, self.places[self.true[str(e.neuron)]]]
            for row, e in enumerate(self.explanations)
            if str(e.neuron) in self.true
        ]
        return self.card(
            "correlation",
            table[range(len(own)), own],
            description,
            unit="correlation",
            chance=shuffled_mean(table[:, own], range(len(own))),
            oracle=mean_known(np.asarray(known)) if known else None,
        )

    def card(
        self,
        metric: str,
        values: Float[np.ndarray, " neurons"],
        description: Description,
        *,
        unit: str,
        chance: float | None,
        oracle: float | None,
    ) -> Scorecard:
        """A headline metric; neurons without a label are unscored."""
        return Scorecard.of_neurons(
            "simulation",
            metric,
            self.explanations,
            values,
            unit=unit,
            higher_is_better=True,
            headline=True,
            chance=chance,
            oracle=oracle,
            judge=self.judge,
            unscored=[e for e in description.explanations if not e.labels],
        )

    def ablation(
        self,
        fitting: Float[np.ndarray, "probing_images sums"],
        n_images: int,
        last: str,
        session: Session,
    ) -> Float[np.ndarray, " neurons"]:
        """The ablation score of each neuron, NaN where it has none.

        fitting: what the neurons' own distinct sums predict of probing images.
        """
        rows = subset(len(self.images.images), min(n_images, len(self.images.images)), session.seed)
        members = [i for i, e in enumerate(self.explanations) if e.neuron.layer != last]
        simulated, means = self._stand_ins(members, fitting, session)
        actual = self.values[rows][:, members]
        neurons = [self.explanations[i].neuron for i in members]
        moved = [
            _distances(neurons, (stand_in - actual).astype(np.float32), self.images, rows, last, session)
            for stand_in in (simulated[rows], np.broadcast_to(means, actual.shape))
        ]
        shares = np.divide(moved[0], moved[1], out=np.full(len(members), np.nan), where=moved[1] > 1e-9)
        found = np.full(len(self.explanations), np.nan)
        found[members] = np.maximum(1 - shares, -1)
        return found

    def _stand_ins(
        self, members: Sequence[int], fitting: Float[np.ndarray, "probing_images sums"], session: Session
    ) -> tuple[Float[np.ndarray, "images members"], Float[np.ndarray, " members"]]:
        """What each neuron's explanation makes of held-out images, in units of its activation, and its mean.

        The factor and the shift are the least-squares ones on probing images.
        """
        column = {found: place for place, found in enumerate(self.own_sums)}
        simulated, means = [], []
        for i in members:
            neuron = self.explanations[i].neuron
            activation = np.asarray(session.activations(neuron.layer).values[:, neuron.unit], float)
            x = fitting[:, column[sum_of(self.explanations[i])]]
            spread = x.var()
            slope = float(np.mean((x - x.mean()) * activation) / spread) if spread > 1e-15 else 0.0
            simulated.append(activation.mean() + slope * (self.predicted[:, self.own[i]] - x.mean()))
            means.append(activation.mean())
        return np.stack(simulated, axis=1), np.asarray(means)


def sum_of(explanation: Explanation) -> Sum:
    """The labels with their weights; of a method without weights the first label."""
    if explanation.weights:
        return explanation.labels, explanation.weights
    return explanation.labels[:1], (1.0,)


def _distances(
    neurons: Sequence[Neuron],
    shifts: Float[np.ndarray, "images neurons"],
    images: ProbeSet,
    rows: Int[np.ndarray, " images"],
    last: str,
    session: Session,
) -> Float[np.ndarray, " neurons"]:
    """How far outputs lie from untouched ones when a neuron is moved: Euclidean, the mean over images.

    Stored for each neuron, since the network runs once for each of them and each image.
    """
    target = session.target
    assert isinstance(target, Steerable)
    code, chosen = code_of(__name__, target, images.images), [images.ids[int(row)] for row in rows]
    keys: list[Key] = [
        {
            "code": code,
            "target": target.fingerprint,
            "images": chosen,
            "neuron": str(neuron),
            "read": last,
            "shifts": shifts[:, place].tolist(),
        }
        for place, neuron in enumerate(neurons)
    ]

    def compute(missing: list[int]) -> Iterator[float]:
        pixels = [images.images[int(row)] for row in rows]
        untouched = target.run(pixels, [last])[last]
        layers = list(dict.fromkeys(neurons[i].layer for i in missing))
        found: dict[int, float] = {}
        for layer in layers:
            mine = [i for i in missing if neurons[i].layer == layer]
            units, first, total = [neurons[i].unit for i in mine], 0, np.zeros(len(mine))
            for moved in target.moved(pixels, layer, units, shifts[:, mine], last):
                own = untouched[first : first + moved.shape[1]]
                total += np.linalg.norm(moved - own, axis=2).sum(axis=1)
                first += moved.shape[1]
            found |= dict(zip(mine, (total / len(rows)).tolist(), strict=True))
        return (found[i] for i in missing)

    return np.asarray(session.store.fill("ablation", keys, compute, batch=_NEURONS), float)
