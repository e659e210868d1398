"""Is a refined answer better than the unrefined one, on images that helped neither to win (DnR 3.2.2)?"""

from __future__ import annotations

import numpy as np

from dnr_bench.parts import EvaluationContext, Evaluator
from dnr_bench.types import Course, Explanation, Scorecard


class Refinement(Evaluator):
    """changed, iterations, and how the refined answer fares against the unrefined one on fresh images.

    A maximum over more concepts looks better by chance, so both answers are drawn anew with other seeds and
    scored against each other. fresh_wins: 1 where the refined answer is ahead, 0.5 for a tie, over neurons
    whose answer changed. fresh_gain: by how much, in units of the scoring function, 0 where it is the same.
    Both are left out for scoring functions that look at the probing set, which is never fresh.
    """

    def evaluate(self, context: EvaluationContext) -> list[Scorecard]:
        """The metrics over refined neurons; none where nothing was refined."""
        refined = [(e, e.course) for e in context.explanations if e.course and not e.unscored]
        if not refined:
            return []
        changed = [(e, course) for e, course in refined if course.answers[0] != course.answers[-1]]
        names = {e.neuron for e, _ in changed}
        cards = [
            _card("changed", refined, [float(e.neuron in names) for e, _ in refined], None),
            _card("iterations", refined, [float(len(course.answers) - 1) for _, course in refined], None),
        ]
        if context.score_pools_anew is None:
            return cards
        pools = {e.neuron: [course.answers[0], course.answers[-1]] for e, course in changed}
        scores = context.score_pools_anew(pools) if pools else {}
        gains = {neuron: float(pair[1] - pair[0]) for neuron, pair in scores.items()}
        cards.append(_card("fresh_gain", refined, [gains.get(e.neuron, 0.0) for e, _ in refined], 0.0))
        if changed:
            wins = [float(np.sign(gains[e.neuron])) / 2 + 0.5 for e, _ in changed]
            cards.append(_card("fresh_wins", changed, wins, 0.5))
        return cards


def _card(
    name: str, items: list[tuple[Explanation, Course]], values: list[float], chance: float | None
) -> Scorecard:
    return Scorecard.of_neurons(
        f"refinement.{name}",
        [explanation for explanation, _ in items],
        values,
        higher_is_better=None if chance is None else True,
        chance=chance,
        signed=chance == 0.0,  # a gain
    )
