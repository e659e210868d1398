"""Labels of units whose true name is known, above all the classes of the last layer (DnD 4.2.1, table 2)."""

from __future__ import annotations

from collections.abc import Sequence

from dnr_bench.data.explanation import Description
from dnr_bench.data.neuron import Neuron
from dnr_bench.data.scorecard import Scorecard
from dnr_bench.protocols import Target, TextEncoder, TextMatcher
from dnr_bench.session import Evaluator, Session
from evaluators.text_agreement import agreement


class FcLayer(Evaluator):
    """How near the (first) label is to the true name, for three judges of texts.

    clip_cos: cosine in the text space of the run's CLIP. sentence_cos: cosine of sentence embeddings.
    bertscore_f1: BERTScore's F1. Figures of different judges must not be compared; each card names its own.
    Works for every layer whose units have known names, not for the last one alone.
    """

    def __init__(self, sentence_encoder: TextEncoder, bert_score: TextMatcher) -> None:
        self.sentence_encoder, self.bert_score = sentence_encoder, bert_score

    def truth(self, neurons: Sequence[Neuron], target: Target) -> dict[Neuron, str]:
        """The true names of all units of the neurons' layers that have one."""
        names: dict[Neuron, str] = {}
        for layer in dict.fromkeys(neuron.layer for neuron in neurons):
            known = target.unit_names(layer) or ()
            names |= {Neuron(layer, unit): name for unit, name in enumerate(known)}
        return names

    def judged(self, description: Description, session: Session) -> list[Scorecard]:
        """All of its metrics."""
        return self.evaluate(description, session)

    def evaluate(self, description: Description, session: Session) -> list[Scorecard]:
        """One scorecard per judge over all units with a known name; none where there is no such unit."""
        names = self.truth([e.neuron for e in description.explanations], session.target)
        named = [e for e in description.explanations if e.neuron in names]
        if all(e.unscored is not None for e in named):
            return []
        true = [names[e.neuron] for e in named]
        return agreement("fc_layer", named, true, self.sentence_encoder, self.bert_score, session)
