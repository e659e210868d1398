"""Labels of units whose true name is known, above all the classes of the last layer (DnD 4.2.1, table 2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dnr_bench.parts import EvaluationContext, Evaluator
from dnr_bench.types import Neuron, Scorecard
from evaluators.metrics import shuffled_mean, word_controls


class FcLayer(Evaluator):
    """clip_cos: the cosine of the (first) label and the true name in CLIP's text space."""

    def truth(self, context: EvaluationContext) -> dict[Neuron, str]:
        """The true names of all units that have one."""
        names: dict[Neuron, str] = {}
        for layer in dict.fromkeys(e.neuron.layer for e in context.explanations):
            known = context.target.unit_names(layer) or ()
            names |= {Neuron(layer, unit): name for unit, name in enumerate(known)}
        return names

    def evaluate(self, context: EvaluationContext) -> list[Scorecard]:
        """One scorecard over all units with a known name."""
        names = self.truth(context)
        named = [e for e in context.explanations if e.neuron in names]
        if all(e.unscored is not None for e in named):
            return []
        true = [names[e.neuron] for e in named]
        labels = [e.labels[0] if e.labels else "" for e in named]
        words = sorted({word for name in names.values() for word in name.split()})
        vectors = _unit_vectors(context, [*true, *labels, *words])
        truth = np.stack([vectors[name] for name in true])
        table = truth @ np.stack([vectors[label] for label in labels]).T
        table[:, [e.unscored is not None for e in named]] = np.nan
        scored = [i for i, e in enumerate(named) if e.unscored is None]
        by_word = truth[scored] @ np.stack([vectors[word] for word in words]).T
        return [
            Scorecard(
                metric="fc_layer.clip_cos",
                higher_is_better=True,
                item_kind="neuron",
                items=[str(e.neuron) for e in named],
                values=np.diagonal(table).astype(float),
                clusters=[e.cluster for e in named],
                chance=shuffled_mean(table, scored),
                oracle=1.0,
                controls=word_controls(by_word),
            )
        ]


def _unit_vectors(context: EvaluationContext, texts: Sequence[str]) -> dict[str, np.ndarray]:
    unique = list(dict.fromkeys(texts))
    return dict(zip(unique, context.embed_texts(unique), strict=True))
