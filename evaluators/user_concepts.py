"""How concepts of the user's fare against machine-made ones (DnR 3.2.3)."""

from __future__ import annotations

import numpy as np

from dnr_bench.data.explanation import Description, Explanation, ScoredCandidate
from dnr_bench.data.scorecard import Scorecard
from dnr_bench.session import Evaluator, Session


class UserConcepts(Evaluator):
    """won: the best concept is the user's. margin: of the user's best score over the best machine-made one.

    Over the neurons that have concepts of both kinds; a concept that both name counts as machine-made.
    The margin is in units of the scoring function.
    """

    def evaluate(self, description: Description, session: Session) -> list[Scorecard]:
        """Both metrics; none where the user supplied no concept."""
        both = [e for e in description.explanations if _best(e, True) and _best(e, False)]
        if not both:
            return []
        won = [float(e.candidates[0].origin == "user") for e in both]
        margins = [_score(_best(e, True)) - _score(_best(e, False)) for e in both]
        luck = [np.mean([c.origin == "user" for c in e.candidates if c.reason is None]) for e in both]
        chance = float(np.mean(luck))
        return [
            Scorecard.of_neurons(
                "user_concepts",
                "won",
                both,
                won,
                unit="share",
                headline=True,
                higher_is_better=None,
                chance=chance,
            ),
            Scorecard.of_neurons(
                "user_concepts", "margin", both, margins, unit="score", higher_is_better=None, signed=True
            ),
        ]


def _best(explanation: Explanation, users: bool) -> ScoredCandidate | None:
    """The best scored candidate that is, or is not, the user's."""
    of_kind = (c for c in explanation.candidates if c.reason is None and (c.origin == "user") == users)
    return next(of_kind, None)


def _score(candidate: ScoredCandidate | None) -> float:
    return candidate.score if candidate else np.nan
