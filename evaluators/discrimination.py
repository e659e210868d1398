"""How much does a label tell? One that fits a hundred neurons tells little of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import log2

import numpy as np
from scipy.stats import rankdata

from dnr_bench.data.explanation import Description, Explanation
from dnr_bench.data.scorecard import Scorecard
from dnr_bench.protocols import Probe, judged_by
from dnr_bench.session import Evaluator, Session
from dnr_bench.stages.caption_contrast import CaptionContrast
from dnr_bench.statistics.wording import Wording
from evaluators.label_tables import card_of_table, label_texts, layer_correlations
from evaluators.text_agreement import able


class Discrimination(Evaluator):
    """unique, neurons_per_label, information; and of retrieval reciprocal_rank and first.

    *unique*: whether no other neuron of the run has the label; labels of the same words are the same,
    whatever their order. *neurons_per_label*: labeled neurons over distinct labels. *information*: the mutual
    information of label and neuron over log2 of the number of labeled neurons: 1 where each has a label of
    its own, 0 where all have the same. None of them asks whether labels are right, so compare them with the
    oracle's.

    *reciprocal_rank*: the label looks for its neuron. Over held-out images, each unit of a layer, described
    or not, is ranked by the correlation of its activation with the label's CLIP cosine, and the value is 1 /
    rank of the label's own neuron. *first*: whether it comes first. A wrong label finds others first, and a
    vague one many others.
    """

    def __init__(self, images: Probe, contrast: CaptionContrast) -> None:
        self.images, self.wording = images, contrast.wording

    def check_images(self, session: Session) -> None:
        """Its images must not be the run's own."""
        session.held_out.check(self.images.load(session.seed))

    def evaluate(self, description: Description, session: Session) -> list[Scorecard]:
        """Scorecards over all labeled neurons; none where there are fewer than two."""
        labeled, texts, n_labels = label_texts(description)
        if len(labeled) < 2:
            return []
        true = [description.truth.get(e.neuron) for e in labeled]
        cards = _sharing_cards(description, labeled, true, self.wording)
        if not able(session.encoder, texts[:n_labels], "discrimination.reciprocal_rank", session):
            return cards
        layers = dict.fromkeys(e.neuron.layer for e in labeled)
        by_layer = layer_correlations(layers, texts, self.images.load(session.seed), session)
        ranked = {layer: rankdata(-np.nan_to_num(table, nan=-2), axis=0) for layer, table in by_layer.items()}
        ranks = np.stack([ranked[e.neuron.layer][e.neuron.unit] for e in labeled])
        for metric, table in (("reciprocal_rank", 1 / ranks), ("first", (ranks == 1).astype(float))):
            cards.append(
                card_of_table(
                    "discrimination", metric, table, labeled, texts, n_labels, description,
                    unit="reciprocal rank" if metric == "reciprocal_rank" else "share",
                    headline=metric == "reciprocal_rank", judge=judged_by(session.encoder),
                )
            )  # fmt: skip
        return cards


def information(names: Sequence[object]) -> float:
    """Mutual information of n items and their names over log2 n; NaN for one item."""
    n = len(names)
    if n < 2:
        return float("nan")
    # an item has one name, so that the information is the entropy of the names
    entropy = -sum(count / n * log2(count / n) for count in Counter(names).values())
    return abs(entropy) / log2(n)


def _sharing_cards(
    description: Description,
    labeled: Sequence[Explanation],
    true: Sequence[str | None],
    wording: Wording,
) -> list[Scorecard]:
    """Metrics of how neurons share labels, with those of the true labels as the oracle."""
    names = [wording.said(e.labels[0]) for e in labeled]
    truths = [wording.said(text) for text in true if text is not None]
    counts, of_truths = Counter(names), Counter(truths)
    unique = Scorecard.of_neurons(
        "discrimination",
        "unique",
        labeled,
        [float(counts[name] == 1) for name in names],
        unit="share",
        higher_is_better=True,
        oracle=float(np.mean([of_truths[name] == 1 for name in truths])) if truths else None,
        unscored=[e for e in description.explanations if not e.labels],
    )
    runs = {
        "neurons_per_label": (
            len(names) / len(counts),
            len(truths) / max(len(of_truths), 1),
            "neurons",
            False,
        ),
        "information": (information(names), information(truths), "share", True),
    }
    return [
        unique,
        *(
            Scorecard(
                group="discrimination",
                metric=metric,
                unit=unit,
                higher_is_better=higher,
                item_kind="run",
                items=["run"],
                values=np.asarray([value]),
                clusters=["run"],
                oracle=best if len(truths) > 1 else None,
            )
            for metric, (value, best, unit, higher) in runs.items()
        ),
    ]
