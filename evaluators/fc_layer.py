"""Labels of units whose true name is known, above all the classes of the last layer (DnD 4.2.1, table 2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from dnr_bench.parts import EvaluationContext, Evaluator, TextEncoder, TextMatcher, judged_by
from dnr_bench.types import Explanation, Neuron, Scorecard
from evaluators.metrics import dealt_elsewhere, shuffled_mean, word_controls

#: BERTScore compares pair by pair, so its controls look at a sample of words and of units.
_WORDS, _UNITS, _DEALS = 50, 100, 5


class FcLayer(Evaluator):
    """How near the (first) label is to the true name, for three judges of texts.

    clip_cos: cosine in the text space of the run's CLIP. sentence_cos: cosine of sentence embeddings.
    bertscore_f1: BERTScore's F1. Figures of different judges must not be compared; each card names its own.
    Works for every layer whose units have known names, not for the last one alone.
    """

    def __init__(self, sentence_encoder: TextEncoder, bert_score: TextMatcher) -> None:
        self.sentence_encoder, self.bert_score = sentence_encoder, bert_score

    def truth(self, context: EvaluationContext) -> dict[Neuron, str]:
        """The true names of all units that have one."""
        names: dict[Neuron, str] = {}
        for layer in dict.fromkeys(e.neuron.layer for e in context.explanations):
            known = context.target.unit_names(layer) or ()
            names |= {Neuron(layer, unit): name for unit, name in enumerate(known)}
        return names

    def evaluate(self, context: EvaluationContext) -> list[Scorecard]:
        """One scorecard a judge over all units with a known name; none where there is no such unit."""
        names = self.truth(context)
        named = [e for e in context.explanations if e.neuron in names]
        if all(e.unscored is not None for e in named):
            return []
        true = [names[e.neuron] for e in named]
        words = sorted({word for name in true for word in name.replace(",", " ").split()})
        cards = [
            _cosine_card(metric, judged_by(encoder), named, true, words, _embedder(context, encoder))
            for metric, encoder in (("clip_cos", context.encoder), ("sentence_cos", self.sentence_encoder))
        ]
        return [*cards, self._match_card(named, true, words, context)]

    def _match_card(
        self,
        named: Sequence[Explanation],
        true: Sequence[str],
        words: Sequence[str],
        context: EvaluationContext,
    ) -> Scorecard:
        scored = [i for i, e in enumerate(named) if e.labels]
        labels, names = [named[i].labels[0] for i in scored], [true[i] for i in scored]
        rng = np.random.default_rng(context.seed)
        deals = dealt_elsewhere(len(scored), _DEALS, rng)
        few = _sample(words, _WORDS, rng)
        some = _sample(names, _UNITS, rng)
        texts = [*labels, *(labels[i] for deal in deals for i in deal), *(word for _ in some for word in few)]
        references = [*names, *(name for _ in deals for name in names), *(name for name in some for _ in few)]
        found = context.match_texts(self.bert_score, texts, references)
        n = len(scored)
        values = np.full(len(named), np.nan)
        values[scored] = found[:n]
        by_word = found[n * (1 + len(deals)) :].reshape(len(some), len(few))
        return _card(
            "bertscore_f1",
            judged_by(self.bert_score),
            named,
            values,
            chance=float(found[n : n * (1 + len(deals))].mean()) if deals else None,
            controls=word_controls(by_word),
        )


def _cosine_card(
    metric: str,
    judge: str,
    named: Sequence[Explanation],
    true: Sequence[str],
    words: Sequence[str],
    embed: Callable[[Sequence[str]], dict[str, np.ndarray]],
) -> Scorecard:
    labels = [e.labels[0] if e.labels else name for e, name in zip(named, true, strict=True)]
    vectors = embed([*true, *labels, *words])
    truth = np.stack([vectors[name] for name in true])
    table = truth @ np.stack([vectors[label] for label in labels]).T
    table[:, [not e.labels for e in named]] = np.nan
    scored = [i for i, e in enumerate(named) if e.labels]
    by_word = truth[scored] @ np.stack([vectors[word] for word in words]).T
    values = np.diagonal(table).astype(float)
    return _card(metric, judge, named, values, shuffled_mean(table, scored), word_controls(by_word))


def _card(
    metric: str,
    judge: str,
    named: Sequence[Explanation],
    values: Float[np.ndarray, " units"],
    chance: float | None,
    controls: dict[str, float],
) -> Scorecard:
    return Scorecard.of_neurons(
        f"fc_layer.{metric}",
        named,
        values,
        higher_is_better=True,
        chance=chance,
        oracle=1.0,
        controls=controls,
        judge=judge,
    )


def _embedder(
    context: EvaluationContext, encoder: TextEncoder
) -> Callable[[Sequence[str]], dict[str, np.ndarray]]:
    def embed(texts: Sequence[str]) -> dict[str, np.ndarray]:
        unique = list(dict.fromkeys(texts))
        return dict(zip(unique, context.embed_texts(unique, encoder), strict=True))

    return embed


def _sample(items: Sequence[str], n: int, rng: np.random.Generator) -> list[str]:
    return [items[i] for i in sorted(rng.permutation(len(items))[:n])]
