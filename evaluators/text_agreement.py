"""How near labels are to other texts for the same neurons, for three judges of texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from dnr_bench.data.explanation import Explanation
from dnr_bench.data.scorecard import Scorecard
from dnr_bench.protocols import TextEncoder, TextMatcher, judged_by, knows
from dnr_bench.session import Session
from dnr_bench.statistics.controls import dealt_elsewhere, shuffled_mean, word_controls

#: BERTScore compares pair by pair, so its controls look at a sample of words and of units.
_WORDS, _UNITS, _DEALS = 50, 100, 5


def agreement(
    group: str,
    explanations: Sequence[Explanation],
    references: Sequence[str],
    sentence_encoder: TextEncoder,
    matcher: TextMatcher,
    session: Session,
) -> list[Scorecard]:
    """A card per judge: clip_cos, sentence_cos and bertscore_f1 of each (first) label and its reference.

    chance: labels of other neurons. Single words of the references are the random and the constant label.
    """
    words = sorted({word for text in references for word in text.replace(",", " ").split()})
    cards = [
        _cosine_card(group, metric, encoder, explanations, references, words, session)
        for metric, encoder in (("clip_cos", session.encoder), ("sentence_cos", sentence_encoder))
        if able(encoder, references, f"{group}.{metric}", session)
    ]
    if able(matcher, references, f"{group}.bertscore_f1", session):
        cards.append(_match_card(group, matcher, explanations, references, words, session))
    return cards


def able(judge: TextEncoder | TextMatcher, texts: Sequence[str], metric: str, session: Session) -> bool:
    """Whether a judge knows the words of these texts; if not, a warning says what to take instead."""
    if knows(judge, texts):
        return True
    session.notices.warn(
        f"{metric} is left out: {judge.name} does not know the words of {texts[0]!r}. Take a judge of real"
        " language: sentence_encoder=mpnet, bert_score=roberta, encoder=open_clip"
    )
    return False


def _cosine_card(
    group: str,
    metric: str,
    encoder: TextEncoder,
    explanations: Sequence[Explanation],
    references: Sequence[str],
    words: Sequence[str],
    session: Session,
) -> Scorecard:
    labels = [e.labels[0] if e.labels else text for e, text in zip(explanations, references, strict=True)]
    unique = list(dict.fromkeys([*references, *labels, *words]))
    vectors = dict(zip(unique, session.embed_texts(unique, encoder), strict=True))
    truth = np.stack([vectors[text] for text in references])
    table = truth @ np.stack([vectors[label] for label in labels]).T
    table[:, [not e.labels for e in explanations]] = np.nan
    scored = [i for i, e in enumerate(explanations) if e.labels]
    by_word = truth[scored] @ np.stack([vectors[word] for word in words]).T
    values = np.diagonal(table).astype(float)
    chance, controls = shuffled_mean(table, scored), word_controls(by_word)
    return _card(group, metric, judged_by(encoder), explanations, values, chance, controls)


def _match_card(
    group: str,
    matcher: TextMatcher,
    explanations: Sequence[Explanation],
    references: Sequence[str],
    words: Sequence[str],
    session: Session,
) -> Scorecard:
    scored = [i for i, e in enumerate(explanations) if e.labels]
    labels, truth = [explanations[i].labels[0] for i in scored], [references[i] for i in scored]
    rng = np.random.default_rng(session.seed)
    deals = dealt_elsewhere(len(scored), _DEALS, rng)
    few, some = _sample(words, _WORDS, rng), _sample(truth, _UNITS, rng)
    texts = [*labels, *(labels[i] for deal in deals for i in deal), *(word for _ in some for word in few)]
    against = [*truth, *(text for _ in deals for text in truth), *(text for text in some for _ in few)]
    found = session.match_texts(matcher, texts, against)
    n = len(scored)
    values = np.full(len(explanations), np.nan)
    values[scored] = found[:n]
    return _card(
        group,
        "bertscore_f1",
        judged_by(matcher),
        explanations,
        values,
        chance=float(found[n : n * (1 + len(deals))].mean()) if deals else None,
        controls=word_controls(found[n * (1 + len(deals)) :].reshape(len(some), len(few))),
    )


def _card(
    group: str,
    metric: str,
    judge: str,
    explanations: Sequence[Explanation],
    values: Float[np.ndarray, " units"],
    chance: float | None,
    controls: dict[str, float],
) -> Scorecard:
    return Scorecard.of_neurons(
        group,
        metric,
        explanations,
        values,
        unit="F1" if metric == "bertscore_f1" else "cosine",
        headline=metric != "bertscore_f1",
        higher_is_better=True,
        chance=chance,
        oracle=1.0,
        controls=controls,
        judge=judge,
    )


def _sample(items: Sequence[str], n: int, rng: np.random.Generator) -> list[str]:
    return [items[i] for i in sorted(rng.permutation(len(items))[:n])]
