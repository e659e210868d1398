"""Is a refined answer better than the unrefined one, on images that helped neither to win (DnR 3.2.2)?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from dnr_bench.data.explanation import Description, Explanation, RefinementRecord
from dnr_bench.data.scorecard import Scorecard
from dnr_bench.protocols import Scorer
from dnr_bench.session import Evaluator, Session


class RefinementGain(Evaluator):
    """changed, iterations, and how the refined answer fares against the unrefined one on fresh images.

    A maximum over more concepts looks better by chance, so both answers are drawn anew with other seeds and
    scored against each other by `scorer`. fresh_wins: 1 where the refined answer is ahead, 0.5 for a tie,
    over neurons whose answer changed. fresh_gain: by how much, in units of the scoring function, 0 where it
    is the same. Both are left out for scoring functions that look at the probing set, which is never fresh.
    """

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer

    def evaluate(self, description: Description, session: Session) -> list[Scorecard]:
        """The metrics over refined neurons; none where nothing was refined."""
        refined = [(e, e.refinement) for e in description.explanations if e.refinement and not e.unscored]
        if not refined:
            return []
        changed = [(e, record) for e, record in refined if record.answers[0] != record.answers[-1]]
        names = {e.neuron for e, _ in changed}
        cards = [
            _card("changed", refined, [float(e.neuron in names) for e, _ in refined], None),
            _card("iterations", refined, [float(len(record.answers) - 1) for _, record in refined], None),
        ]
        if "probe_correlation" in self.scorer.needs:
            return cards
        pools = {e.neuron: [record.answers[0], record.answers[-1]] for e, record in changed}
        priors = {e.neuron: _priors(e, pools[e.neuron]) for e, _ in changed}
        scores = session.scores(pools, self.scorer, priors=priors, fresh=True) if pools else {}
        gains = {neuron: float(pair[1] - pair[0]) for neuron, pair in scores.items()}
        cards.append(_card("fresh_gain", refined, [gains.get(e.neuron, 0.0) for e, _ in refined], 0.0))
        if changed:
            wins = [float(np.sign(gains[e.neuron])) / 2 + 0.5 for e, _ in changed]
            cards.append(_card("fresh_wins", changed, wins, 0.5))
        return cards


def _priors(explanation: Explanation, texts: Sequence[str]) -> list[float]:
    known = {candidate.text: candidate.prior for candidate in explanation.candidates}
    return [known.get(text, math.nan) for text in texts]


def _card(
    name: str, items: list[tuple[Explanation, RefinementRecord]], values: list[float], chance: float | None
) -> Scorecard:
    return Scorecard.of_neurons(
        "refinement",
        name,
        [explanation for explanation, _ in items],
        values,
        unit="iterations" if name == "iterations" else "score" if name == "fresh_gain" else "share",
        headline=name in ("changed", "fresh_wins"),
        higher_is_better=None if chance is None else True,
        chance=chance,
        signed=chance == 0.0,  # a gain
    )
