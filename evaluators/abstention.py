"""How much better are labels when the least certain ones are left out, and by which signal?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil

import numpy as np
from jaxtyping import Float

from dnr_bench.data.explanation import Description, Explanation
from dnr_bench.data.neuron import Neuron
from dnr_bench.data.scorecard import Plot, Scorecard, Table
from dnr_bench.infra.errors import NothingToJudgeError
from dnr_bench.infra.planted import PlantedTruth, read_planted
from dnr_bench.infra.ranges import check_range
from dnr_bench.methods.describe_and_dissect.abstention import drives
from dnr_bench.protocols import Probe, Target, knows
from dnr_bench.session import Evaluator, Method, Session
from dnr_bench.stages.caption_contrast import CaptionContrast
from dnr_bench.statistics.selective import area, errors_by_coverage, kept
from evaluators.label_tables import held_out_correlations
from evaluators.planted import Truth, label_concept, scored
from evaluators.stability import bootstrap_votes

_COVERAGES = np.linspace(0.1, 1.0, 10).round(1)


class Abstention(Evaluator):
    """For each signal of confidence the area under the curve of error against coverage, and error_at_80.

    The error of a label is 1 - attribute F1 against the planted truth; a label of a unit that detects
    nothing, or nothing with a name, is an error of 1. *wrong* counts labels that neither imply the truth nor
    are implied by it, these included. At a coverage of 80% the 80% of the labels with the highest signal are
    kept; equally confident ones count in part. The area is the mean error over all coverages: chance is that
    of a random order, and oracle that of labels in the order of their errors.

    Signals: *margin* of the best candidate's score over the second, in standard deviations of the neuron's
    scores; *prior*, the support of the label by captions, where the method has it; *drive*, by how much
    images of the label excite the neuron more than images of other labels do (what abstain_margin asks);
    *probe_correlation* and *held_out_correlation* of activation and the label's CLIP cosine over explaining
    and over held-out images; *stability*, the share of bootstrap samples that give the same label, where
    `n_samples` is not 0.
    """

    def __init__(
        self, truth: str | None, images: Probe, method: Method, contrast: CaptionContrast, n_samples: int
    ) -> None:
        check_range(0, 10_000, n_samples=n_samples)
        self.planted = {planted.neuron: planted for planted in read_planted(truth)}
        self.images, self.method, self.wording, self.n_samples = images, method, contrast.wording, n_samples

    def check(self, neurons: Sequence[Neuron], target: Target) -> None:
        """Some neuron must be one whose truth is known."""
        if not set(neurons) & self.planted.keys():
            raise NothingToJudgeError("it needs errors, and knows the truth of planted units only")

    def check_images(self, session: Session) -> None:
        """Its images must not be the run's own."""
        session.held_out.check(self.images.load(session.seed))

    def evaluate(self, description: Description, session: Session) -> list[Scorecard | Table]:
        """Three cards per signal, and the curves; none where no planted unit has a label."""
        known = [e for e in description.explanations if e.labels and e.neuron in self.planted]
        if len(known) < 2:
            return []
        errors = np.asarray([label_error(e, self.planted[e.neuron]) for e in known])
        wrongs = np.asarray([_scores(e, self.planted[e.neuron])["wrong"] for e in known])
        rows: list[Mapping[str, object]] = []
        cards: list[Scorecard | Table] = []
        for name, signal in self._signals(known, session).items():
            confidence = np.nan_to_num(signal, nan=-np.inf)
            rows += _curve(name, errors, wrongs, confidence)
            cards += _cards(name, errors, wrongs, confidence)
        plot = Plot("coverage", "error", ("signal",), "Error of the labels that are kept")
        return [*cards, Table("abstention", rows, plot)]

    def _signals(
        self, known: Sequence[Explanation], session: Session
    ) -> dict[str, Float[np.ndarray, " neurons"]]:
        labels = [e.labels[0] for e in known]
        signals = {"margin": np.asarray([margin(e) for e in known])}
        priors = np.asarray([e.best.prior if e.best else np.nan for e in known])
        if not np.isnan(priors).all():
            signals["prior"] = priors
        driven = drives({e.neuron: e.labels[0] for e in known}, session)
        signals["drive"] = np.asarray([driven.get(e.neuron, np.nan) for e in known])
        if knows(session.encoder, labels):
            on_probe = session.probe_correlations({e.neuron: [e.labels[0]] for e in known})
            signals["probe_correlation"] = np.asarray([on_probe[e.neuron][0] for e in known])
            images, texts = self.images.load(session.seed), list(dict.fromkeys(labels))
            table = held_out_correlations(known, texts, images, session)
            own = [texts.index(label) for label in labels]
            signals["held_out_correlation"] = table[range(len(own)), own]
        if self.n_samples:
            votes = bootstrap_votes(self.method, known, self.wording, self.n_samples, session)
            signals["stability"] = np.asarray([votes[e.neuron].kept for e in known])
        return signals


def label_error(explanation: Explanation, planted: PlantedTruth) -> float:
    """1 - attribute F1 of a neuron's label; 1 where there is nothing to name."""
    return 1 - _scores(explanation, planted)["attribute_f1"]


def _scores(explanation: Explanation, planted: PlantedTruth) -> dict[str, float]:
    """What the evaluator `planted` says of a label; where there is nothing to name, every label is wrong."""
    truth = Truth.of(planted)
    return scored(label_concept(explanation, truth), truth)


def margin(explanation: Explanation) -> float:
    """By how much the best candidate beats the second, in standard deviations of all; 0 without a second."""
    scores = np.asarray([candidate.score for candidate in explanation.candidates], float)
    scores = scores[~np.isnan(scores)]
    spread = scores.std() if len(scores) > 1 else 0.0
    return float((scores[0] - scores[1]) / spread) if spread > 0 else 0.0


def _curve(
    name: str,
    errors: Float[np.ndarray, " neurons"],
    wrongs: Float[np.ndarray, " neurons"],
    confidence: Float[np.ndarray, " neurons"],
) -> list[Mapping[str, object]]:
    """Both errors at ten coverages, and the signal from which on labels are kept."""
    ordered = np.sort(confidence)[::-1]
    by_error, by_wrong = (errors_by_coverage(of_one, confidence) for of_one in (errors, wrongs))
    rows: list[Mapping[str, object]] = []
    for coverage in _COVERAGES:
        last = max(ceil(coverage * len(errors)), 1) - 1
        rows.append(
            {
                "signal": name,
                "coverage": float(coverage),
                "error": float(by_error[last]),
                "wrong": float(by_wrong[last]),
                "kept from": float(ordered[last]),
            }
        )
    return rows


def _cards(
    name: str,
    errors: Float[np.ndarray, " neurons"],
    wrongs: Float[np.ndarray, " neurons"],
    confidence: Float[np.ndarray, " neurons"],
) -> list[Scorecard]:
    at_80, best = kept(confidence, 0.8), kept(-errors, 0.8)
    values = {
        "area": (area(errors, confidence), errors.mean(), area(errors, -errors)),
        "error_at_80": (_mean(errors, at_80), errors.mean(), _mean(errors, best)),
        "wrong_at_80": (_mean(wrongs, at_80), wrongs.mean(), _mean(wrongs, kept(-wrongs, 0.8))),
    }
    return [
        Scorecard(
            group="abstention",
            metric=f"{name}.{metric}",
            unit="share" if metric == "wrong_at_80" else "error",
            higher_is_better=False,
            item_kind="run",
            items=["run"],
            values=np.asarray([value]),
            clusters=["run"],
            chance=float(chance),
            oracle=oracle,
        )
        for metric, (value, chance, oracle) in values.items()
    ]


def _mean(values: Float[np.ndarray, " neurons"], weights: Float[np.ndarray, " neurons"]) -> float:
    return float((values * weights).sum() / weights.sum())
