"""How often labels name what a network should not look at (DnD 5.3, table 8)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from dnr_bench.errors import UsageError
from dnr_bench.parts import EvaluationContext, Evaluator
from dnr_bench.types import Scorecard


class Spurious(Evaluator):
    """For each term the share of labelled units whose (first) label holds one of its words.

    terms: {name: [word, ...]}; a word is found whole, whatever its case.
    """

    def __init__(self, terms: Mapping[str, Sequence[str]]) -> None:
        if not terms:
            raise UsageError("terms={} must name at least one term, as {water: [fishing, boat]}")
        for name, words in terms.items():
            if isinstance(words, str) or not words or not all(word.strip() for word in words):
                raise UsageError(f"terms.{name}={words!r} must be a list of words")
        if len({_metric(name) for name in terms}) < len(terms):
            raise UsageError(f"terms={list(terms)}: names must differ in their letters and digits (a-z, 0-9)")
        self.patterns = {
            name: re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, words))})(?!\w)", re.IGNORECASE)
            for name, words in terms.items()
        }

    def evaluate(self, context: EvaluationContext) -> list[Scorecard]:
        """A scorecard a term; none where no unit has a label."""
        labels = [e.labels[0] if e.labels else None for e in context.explanations]
        names = [str(e.neuron) for e in context.explanations]
        if not any(labels):
            return []
        return [
            Scorecard(
                metric=_metric(name),
                higher_is_better=None,
                item_kind="neuron",
                items=names,
                values=np.asarray([_holds(pattern, label) for label in labels]),
                clusters=names,
            )
            for name, pattern in self.patterns.items()
        ]


def _metric(name: str) -> str:
    return f"spurious.{re.sub(r'[^0-9a-zA-Z]+', '_', name)}"


def _holds(pattern: re.Pattern[str], label: str | None) -> float:
    return np.nan if label is None else float(bool(pattern.search(label)))
