"""The cost of labels per neuron: seconds, images, captions, tokens, money (DnD A.10: 38.8 s, V100)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dnr_bench.data.explanation import Description
from dnr_bench.data.scorecard import Scorecard, Table
from dnr_bench.data.stages import StageCount
from dnr_bench.session import Evaluator, Session


class Cost(Evaluator):
    """Of the whole run without its evaluators, by its neurons: seconds, generated images, captioned views.

    seconds_per_neuron is what this run took: what was in the store cost nothing. The table has the stages,
    and what each would have taken with an empty store, where it computed some of its items. A concept that
    several neurons share is drawn once and counts once. Where a chat model is asked: tokens of questions and
    answers, and dollars where prices are known; answers from the store cost nothing. `images_per_concept` is
    the run's own.
    """

    def __init__(self, images_per_concept: int) -> None:
        self.images_per_concept = images_per_concept

    def evaluate(self, description: Description, session: Session) -> list[Scorecard | Table]:
        """Scorecards of the run, and a table of its stages."""
        n = len(description.explanations)
        concepts = {c.text for e in description.explanations for c in e.candidates}
        drawn = len(concepts) * self.images_per_concept if "images" in description.stages else 0
        captioned = description.stages.get("captions", StageCount())
        found = {
            "seconds": sum(count.seconds for count in description.stages.values()),
            "images": float(drawn),
            "captions": float(captioned.hits + captioned.misses),
            **_chats(description),
        }
        cards = [
            Scorecard(
                group="cost",
                metric=f"{name}_per_neuron",
                unit=name,
                higher_is_better=False,
                item_kind="run",
                items=["run"],
                values=np.asarray([value / n]),
                clusters=["run"],
            )
            for name, value in found.items()
        ]
        return [*cards, Table("cost", [_row(name, count, n) for name, count in description.stages.items()])]


def _chats(description: Description) -> dict[str, float]:
    """Tokens and dollars of all parts that ask chat models; none where there is no such part."""
    totals = [usage.totals for usage in description.usage.values()]
    if not totals:
        return {}
    tokens = sum((t["prompt_tokens"] or 0) + (t["completion_tokens"] or 0) for t in totals)
    dollars = [t["dollars"] for t in totals]
    known = [value for value in dollars if value is not None]
    return {"tokens": tokens, **({"dollars": sum(known)} if len(known) == len(dollars) else {})}


def _row(stage: str, count: StageCount, n: int) -> Mapping[str, str | float | None]:
    items = count.hits + count.misses
    return {
        "stage": stage,
        "seconds per neuron": count.seconds / n,
        "with an empty store": count.seconds / n * items / count.misses if count.misses else None,
        "computed": float(count.misses),
        "from the store": float(count.hits),
    }
