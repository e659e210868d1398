"""What people think of labels, from a rating study (DnD tables 3, 4, 6, 9)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dnr_bench.data.explanation import Description, Explanation
from dnr_bench.data.neuron import Neuron
from dnr_bench.data.scorecard import Scorecard
from dnr_bench.infra.errors import UsageError
from dnr_bench.protocols import Target
from dnr_bench.results.ratings.analysis import LabelRating
from dnr_bench.results.ratings.design import plain, said
from dnr_bench.results.ratings.result import RatingResult
from dnr_bench.session import Evaluator, Session


class Ratings(Evaluator):
    """The ratings of each neuron's (first) label, in any run that gave it: a label is known by its words.

    rating: the mean from 1 to 5, chance: labels of other neurons. best: how often it was called the best of
    those shown. Of a study that asked about pictures, correlation: of label and activation over all probing
    images, chance: 0. Labels that nobody rated are unscored.

    file: ratings.json of `dnr-bench rate analyze`.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        try:
            self.found = RatingResult.read(Path(file))
        except UsageError as error:
            raise UsageError(f"evaluator.ratings.file={file!r}: {error}") from error
        self.of_label = {(label.neuron, plain(label.label)): label for label in self.found.labels}

    def check(self, neurons: Sequence[Neuron], target: Target) -> None:
        """Some neuron must have been rated."""
        rated = {label.neuron for label in self.found.labels}
        if not rated & {str(neuron) for neuron in neurons}:
            raise UsageError(
                f"evaluator.ratings.file={self.file!r} has ratings of {len(rated)} neurons, but of none of"
                f" this run's ({neurons[0]} ...)"
            )

    def evaluate(self, description: Description, session: Session) -> list[Scorecard]:
        """A card for each thing that people were asked; none where no label was rated."""
        found = [(e, self._of(e)) for e in description.explanations]
        both = [e for e, label in found if label is not None]
        others = [e for e, label in found if label is None]
        if not both:
            return []
        cards = []
        for metric, unit, chance, headline in self._asked():
            values = [getattr(label, metric) for _, label in found if label is not None]
            if not np.isnan(values).all():
                card = Scorecard.of_neurons(
                    "ratings", metric, both, values, unit=unit, higher_is_better=True, chance=chance,
                    headline=headline, judge=f"people (study {self.found.study})", unscored=others,
                )  # fmt: skip
                cards.append(card)
        return cards

    def _asked(self) -> Sequence[tuple[str, str, float | None, bool]]:
        if self.found.asks == "pictures":
            return (("correlation", "correlation", 0.0, True),)
        return (("rating", "rating from 1 to 5", self.found.chance, True), ("best", "share", None, False))

    def _of(self, explanation: Explanation) -> LabelRating | None:
        shown = said(explanation.labels, explanation.weights)
        return self.of_label.get((str(explanation.neuron), plain(shown)))
