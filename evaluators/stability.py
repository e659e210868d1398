"""Would the neuron get the same label from other images, other drawings, blurred images?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isinf

import numpy as np
from tqdm import tqdm

from dnr_bench.data.explanation import Description, Explanation
from dnr_bench.data.neuron import Neuron
from dnr_bench.data.scorecard import Scorecard, Table
from dnr_bench.infra.errors import NothingToJudgeError, UsageError
from dnr_bench.infra.ranges import check_range
from dnr_bench.methods.none import NoLabels
from dnr_bench.methods.precomputed import Precomputed
from dnr_bench.probes.corruptions import NoCorruption
from dnr_bench.probes.perturbed import Perturbation, perturbed
from dnr_bench.protocols import Target
from dnr_bench.session import Evaluator, Method, Session, resampled, variant
from dnr_bench.stages.caption_contrast import CaptionContrast
from dnr_bench.stages.resampling import bootstrap_places
from dnr_bench.statistics.conformal import calibrated, needed, prediction_set
from dnr_bench.statistics.wording import Wording


class Stability(Evaluator):
    """bootstrap, seeds and blur: in which share of repetitions a neuron keeps its label.

    The method is run again for the same neurons: on bootstrap samples of the probing images, whose
    activations are those that are stored; with other seeds for what it draws and shuffles; and on blurred
    probing images. Labels of the same words are the same, whatever their order.

    *set_size*: concepts in a neuron's prediction set. Each repetition on a bootstrap sample votes for its
    candidates by 1 / rank, and the set takes the most voted ones until their votes reach a threshold. Where
    truth is known, half of the neurons calibrate the threshold for the other half (and the other way round),
    so that the set holds the truth for the share `level` of neurons like these; *covered* says whether it
    does. Otherwise the threshold is `level` itself, a share of votes and no promise.

    Args:
        method: the run's.
        contrast: knows which words of a label say something.
        n_samples: bootstrap samples.
        seeds: further seeds. blurs: standard deviations in pixels. Both may be empty.
        level: of the prediction sets.
    """

    def __init__(
        self,
        method: Method,
        contrast: CaptionContrast,
        n_samples: int,
        seeds: Sequence[int],
        blurs: Sequence[float],
        level: float,
    ) -> None:
        check_range(2, 10_000, n_samples=n_samples)
        if not 0 < level < 1:
            raise UsageError(f"level={level} must lie between 0 and 1")
        self.method, self.wording = method, contrast.wording
        self.n_samples, self.seeds, self.level = n_samples, tuple(seeds), level
        self.blurs = [Perturbation(blur, None, "all", NoCorruption()) for blur in blurs]

    def check(self, neurons: Sequence[Neuron], target: Target) -> None:
        """The method must look at images."""
        if isinstance(self.method, Precomputed | NoLabels):
            raise NothingToJudgeError("it runs the method again on other images, and this one looks at none")

    def evaluate(self, description: Description, session: Session) -> list[Scorecard | Table]:
        """A card per kind of repetition, and the prediction sets; none where no neuron has a label."""
        labeled = [e for e in description.explanations if e.labels]
        if not labeled:
            return []
        unscored = [e for e in description.explanations if not e.labels]
        votes = {e.neuron: Votes(e.labels[0], self.wording) for e in labeled}
        n = self.n_samples + len(self.seeds) + len(self.blurs)
        _count(votes, self._repetitions(session), n, self.method)
        names = dict.fromkeys(name for of_one in votes.values() for name in of_one.same)
        cards: list[Scorecard | Table] = [
            Scorecard.of_neurons(
                "stability",
                name,
                labeled,
                [float(np.mean(votes[e.neuron].same[name])) for e in labeled],
                unit="share",
                headline=name == "bootstrap",
                higher_is_better=True,
                chance=_chance(votes),
                oracle=1.0,
                unscored=unscored,
            )
            for name in names
        ]
        return [*cards, *self._sets(description, labeled, votes, session)]

    def _repetitions(self, session: Session) -> Iterator[tuple[str, Session]]:
        yield from _bootstraps(self.n_samples, session)
        for seed in self.seeds:
            yield "seeds", variant(session, seed=seed)
        for blur in self.blurs:
            yield f"blur_{blur.blur:g}", variant(session, probe=perturbed(session.probe, blur))

    def _sets(
        self,
        description: Description,
        labeled: Sequence[Explanation],
        votes: Mapping[Neuron, Votes],
        session: Session,
    ) -> list[Scorecard | Table]:
        """The size of each neuron's set, whether it holds the truth, and the sets themselves."""
        shares = {e.neuron: votes[e.neuron].shares for e in labeled}
        truths = {n: text for n, text in description.truth.items() if n in shares}
        spelled = {n: votes[n].name(text) for n, text in truths.items()}
        thresholds = self._thresholds(list(shares), shares, spelled, session.seed)
        sets = {n: prediction_set(of_one, thresholds[n]) for n, of_one in shares.items()}
        if any(isinf(thresholds[n]) for n in sets):
            session.notices.warn(self._why_endless(spelled, shares))
        sizes = [float(len(sets[e.neuron])) for e in labeled]
        found: list[Scorecard | Table] = [
            Scorecard.of_neurons(
                "stability", "set_size", labeled, sizes, unit="concepts", higher_is_better=False
            )
        ]
        known = [e for e in labeled if e.neuron in spelled]
        if known:
            covered = [float(spelled[e.neuron] in sets[e.neuron]) for e in known]
            found.append(
                Scorecard.of_neurons(
                    "stability", "covered", known, covered, unit="share", higher_is_better=True
                )
            )
        words = {n: votes[n].words for n in sets}
        rows = [
            {
                "neuron": str(e.neuron),
                "label": e.labels[0],
                "kept": votes[e.neuron].kept,
                "set": "; ".join(words[e.neuron][name] for name in sets[e.neuron]),
            }
            for e in labeled
        ]
        return [*found, Table("stability_sets", rows)]

    def _why_endless(self, truths: Mapping[Neuron, str], shares: Mapping[Neuron, Mapping[str, float]]) -> str:
        """Why sets of this level hold all candidates."""
        if isinf(calibrated([0.0] * (len(truths) // 2), self.level)):
            return (
                f"stability: prediction sets of level {self.level:g} cannot be calibrated with {len(truths)}"
                " neurons whose truth is known; sets hold all candidates"
            )
        most = float(np.mean([right in shares[n] for n, right in truths.items()]))
        return (
            f"stability: prediction sets of level {self.level:g} cannot be had: the truth is among the"
            f" candidates of {most:.0%} of the neurons; sets hold all candidates"
        )

    def _thresholds(
        self,
        neurons: Sequence[Neuron],
        shares: Mapping[Neuron, Mapping[str, float]],
        truths: Mapping[Neuron, str],
        seed: int,
    ) -> dict[Neuron, float]:
        """Of each neuron's set: from the other half of the neurons whose truth is known."""
        if not truths:
            return dict.fromkeys(neurons, self.level)
        # those whose truth is known are dealt alternately, then the others
        order = np.random.default_rng([29, seed]).permutation(len(neurons))
        dealt = sorted((neurons[place] for place in order), key=lambda neuron: neuron not in truths)
        halves = {neuron: rank % 2 for rank, neuron in enumerate(dealt)}
        asked = {n: needed(shares[n], right) for n, right in truths.items()}
        of_half = [
            calibrated([value for n, value in asked.items() if halves[n] != half], self.level)
            for half in (0, 1)
        ]
        return {neuron: of_half[halves[neuron]] for neuron in neurons}


def bootstrap_votes(
    method: Method, labeled: Sequence[Explanation], wording: Wording, n_samples: int, session: Session
) -> dict[Neuron, Votes]:
    """What the method says of labeled neurons on bootstrap samples of the probing images."""
    votes = {e.neuron: Votes(e.labels[0], wording) for e in labeled}
    _count(votes, _bootstraps(n_samples, session), n_samples, method)
    return votes


def _bootstraps(n_samples: int, session: Session) -> Iterator[tuple[str, Session]]:
    """One after the other, since each holds its part of the activations."""
    rng = np.random.default_rng([23, session.seed])
    n = len(session.probe.images)
    for _ in range(n_samples):
        yield "bootstrap", resampled(session, bootstrap_places(n, rng))


def _count(
    votes: Mapping[Neuron, Votes], repetitions: Iterator[tuple[str, Session]], n: int, method: Method
) -> None:
    """Run the method again and count what it says."""
    for name, repetition in tqdm(repetitions, "repetitions", n, leave=False, disable=None):
        for explanation in method.explain(list(votes), repetition):
            votes[explanation.neuron].add(name, explanation)


@dataclass
class Votes:
    """What repetitions say of one neuron: whether they keep its label, and their candidates by 1 / rank."""

    label: str
    wording: Wording
    same: dict[str, list[bool]] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    _counts: dict[str, float] = field(default_factory=dict)

    def add(self, repetition: str, explanation: Explanation) -> None:
        """Count one more explanation."""
        label = explanation.labels[0] if explanation.labels else ""
        self.same.setdefault(repetition, []).append(self.name(label) == self.name(self.label))
        if repetition == "bootstrap":
            for rank, candidate in enumerate(explanation.candidates, start=1):
                name = self.name(candidate.text)
                self.words.setdefault(name, candidate.text)
                self._counts[name] = self._counts.get(name, 0.0) + 1 / rank

    def name(self, text: str) -> str:
        """A text as its words, in whatever order and form."""
        return self.wording.said(text)

    @property
    def kept(self) -> float:
        """The share of bootstrap samples that give the same label."""
        return float(np.mean(self.same["bootstrap"]))

    @property
    def shares(self) -> dict[str, float]:
        """The votes of bootstrap samples for each candidate, as shares of all."""
        total = sum(self._counts.values())
        return {name: count / total for name, count in self._counts.items()} if total else {}


def _chance(votes: Mapping[Neuron, Votes]) -> float | None:
    """How often another neuron's label is the same."""
    labels = Counter(of_one.name(of_one.label) for of_one in votes.values())
    n = sum(labels.values())
    return sum(count * (count - 1) for count in labels.values()) / (n * (n - 1)) if n > 1 else None
