"""What labels cost: seconds, images, captions, tokens and money a neuron (DnD A.10: 38.8 s on a V100)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dnr_bench.parts import EvaluationContext, Evaluator
from dnr_bench.store import StageCount
from dnr_bench.types import Scorecard, Table


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

    def evaluate(self, context: EvaluationContext) -> list[Scorecard | Table]:
        """Scorecards of the run, and a table of its stages."""
        n = len(context.explanations)
        concepts = {c.text for e in context.explanations for c in e.candidates}
        drawn = len(concepts) * self.images_per_concept if "images" in context.stages else 0
        captioned = context.stages.get("captions", StageCount())
        found = {
            "seconds": sum(count.seconds for count in context.stages.values()),
            "images": float(drawn),
            "captions": float(captioned.hits + captioned.misses),
            **_chats(context),
        }
        cards = [
            Scorecard(
                metric=f"cost.{name}_per_neuron",
                higher_is_better=False,
                item_kind="run",
                items=["run"],
                values=np.asarray([value / n]),
                clusters=["run"],
            )
            for name, value in found.items()
        ]
        return [*cards, Table("cost", [_row(name, count, n) for name, count in context.stages.items()])]


def _chats(context: EvaluationContext) -> dict[str, float]:
    """Tokens and dollars of all parts that ask chat models; none where there is no such part."""
    totals = [usage.totals for usage in context.usage.values()]
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
