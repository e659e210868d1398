"""Does a unit move with the attributes that its label names, and with nothing else?

Exact, where the renderer can change one attribute and leave everything else as it is, the noise included: all
combinations of attributes in the same layouts. In any world, with images that are drawn: those of the label
against those of the label with a word left out or exchanged, from the same seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from zlib import crc32

import numpy as np
from jaxtyping import Float
from scipy.stats import pearsonr

from dnr_bench.data.explanation import Description, Explanation
from dnr_bench.data.neuron import Neuron
from dnr_bench.data.scorecard import Scorecard, Table
from dnr_bench.infra.errors import NothingToJudgeError
from dnr_bench.infra.planted import read_planted
from dnr_bench.infra.ranges import check_range
from dnr_bench.protocols import Target
from dnr_bench.session import Evaluator, Session
from dnr_bench.shapes.concepts import parse
from dnr_bench.shapes.factorial import FactorialProbe, contrasts, necessity, responses, sufficiency
from dnr_bench.stages.caption_contrast import CaptionContrast
from dnr_bench.statistics.wording import Variant, word_variants
from evaluators.label_tables import card_of_table, label_texts

#: Of each metric a value of each neuron with each text.
_Tables = dict[str, Float[np.ndarray, "neurons texts"]]


class Counterfactual(Evaluator):
    """necessity, sufficiency and score from exact pairs; words from images that are drawn.

    Activations are taken as shares of a unit's own range. *necessity*: by how much the unit falls when an
    attribute that the label names is changed so that the label no longer holds, the mean over these
    attributes. *sufficiency*: how high the unit stays when something else is changed, the mean over the
    facets that the label leaves open. *score*: their harmonic mean, so that "solid square" for "square" loses
    (no fall without "solid"), and "square" for "solid square", too (mostly low when the texture is changed).
    A label that names nothing of the world, or nothing possible, gets 0.

    *words*: by how much the unit falls from images of the label to images without one of its words, drawn
    from the same seeds, the mean over its words.

    Args:
        truth: a target's checkpoint directory; exact pairs are shown to targets with planted.json, which know
            the shapes world.
        n_layouts: places, sizes, rotations ... in which all 1,792 combinations of attributes are rendered.
        words: whether to draw images with words left out.
        n_exchanged: by how many other words of the run's labels the word of a one-word label is replaced.
        contrast: knows which words of a label say something.
    """

    def __init__(
        self, truth: str | None, n_layouts: int, words: bool, n_exchanged: int, contrast: CaptionContrast
    ) -> None:
        check_range(1, 20, n_exchanged=n_exchanged)
        self.design = FactorialProbe(n_layouts)
        self.exact = bool(read_planted(truth))
        self.words, self.n_exchanged, self.wording = words, n_exchanged, contrast.wording

    def check(self, neurons: Sequence[Neuron], target: Target) -> None:
        """Exact pairs need planted units, and other networks images with words left out."""
        if not self.exact and not self.words:
            raise NothingToJudgeError(
                "exact pairs are for the embedded targets; evaluator.counterfactual.words=true draws images"
                " of labels with a word left out"
            )

    def judged(self, description: Description, session: Session) -> list[Scorecard]:
        """The exact metrics: nobody needs to draw copied captions with words left out."""
        labeled, texts, n_labels = label_texts(description)
        if not self.exact or not labeled:
            return []
        _, tables = self._exact(labeled, texts, session)
        return _cards(tables, labeled, texts, n_labels, description)

    def evaluate(self, description: Description, session: Session) -> list[Scorecard | Table]:
        """A scorecard per metric, a row per attribute, and how far both ways of asking agree."""
        labeled, texts, n_labels = label_texts(description)
        found: list[Scorecard | Table] = []
        tables: _Tables = {}
        if not labeled:
            return found
        if self.exact:
            rows, tables = self._exact(labeled, texts, session)
            found += [*_cards(tables, labeled, texts, n_labels, description), Table("counterfactual", rows)]
        if self.words:
            by_words = self._by_words(labeled, texts, n_labels, session)
            judge = session.drawn_by
            found.append(
                card_of_table(
                    "counterfactual", "words", by_words, labeled, texts, n_labels, description,
                    unit="share", headline=not self.exact, judge=judge,
                )
            )  # fmt: skip
            if self.exact:
                found.append(_agreement(tables["necessity"], by_words, labeled, texts))
        return found

    # exact pairs

    def _exact(
        self, labeled: Sequence[Explanation], texts: Sequence[str], session: Session
    ) -> tuple[list[Mapping[str, object]], _Tables]:
        """A row for each attribute of each neuron's label, and the tables of all labels."""
        images = self.design.load(session.seed)
        outputs = session.held_out.activations(images)
        of_neurons = np.stack(
            [responses(outputs[e.neuron.layer].values[:, [e.neuron.unit]].astype(float))[0] for e in labeled]
        )
        tables: _Tables = {
            name: np.zeros((len(labeled), len(texts))) for name in ("necessity", "sufficiency")
        }
        rows: list[Mapping[str, object]] = []
        for column, text in enumerate(texts):
            if (claims := contrasts(parse(text))) is None:
                continue
            needed, kept = necessity(claims, of_neurons), sufficiency(claims, of_neurons)
            tables["necessity"][:, column] = np.mean(list(needed.values()), axis=0)
            tables["sufficiency"][:, column] = np.mean(list(kept.values()), axis=0)
            for row, e in enumerate(labeled):
                if e.labels[0] == text:
                    rows += _attribute_rows(e, needed, kept, row)
        both = tables["necessity"] + tables["sufficiency"]
        product = 2 * tables["necessity"] * tables["sufficiency"]
        tables["score"] = np.divide(product, both, out=np.zeros(both.shape), where=both > 0)
        return rows, tables

    # words left out

    def _by_words(
        self, labeled: Sequence[Explanation], texts: Sequence[str], n_labels: int, session: Session
    ) -> Float[np.ndarray, "neurons texts"]:
        """The fall of each neuron without a word of each label, as a share of its range, 0..1."""
        others = list(dict.fromkeys(word for text in texts[:n_labels] for word in self.wording.words(text)))
        variants = {text: self._variants(text, others, session.seed) for text in texts}
        pairs = dict.fromkeys(
            pair
            for of_text in variants.values()
            for variant in of_text
            for pair in ((variant.side, variant.side), (variant.text, variant.side))
        )
        low, span = _ranges(labeled, session)
        places: dict[str, list[int]] = {}
        for row, e in enumerate(labeled):
            places.setdefault(e.neuron.layer, []).append(row)
        level: dict[tuple[str, str], Float[np.ndarray, " neurons"]] = {}
        drawn = session.draw([a for a, _ in pairs], fresh=True, seeds_of=[b for _, b in pairs])
        for pair, rendering in zip(pairs, drawn, strict=True):
            means = np.empty(len(labeled))
            for layer, rows in places.items():
                units = [labeled[row].neuron.unit for row in rows]
                means[rows] = rendering.activations[layer].mean(axis=0)[units]
            level[pair] = np.clip((means - low) / span, 0, 1)
        return np.stack([_fall(variants[text], level, len(labeled)) for text in texts], axis=1)

    def _variants(self, text: str, others: Sequence[str], seed: int) -> list[Variant]:
        """The same for a text whatever other labels there are, as far as these have the same words."""
        rng = np.random.default_rng([17, seed, crc32(text.encode())])
        return word_variants(text, self.wording, others, self.n_exchanged, rng)


def _fall(
    variants: Sequence[Variant],
    level: Mapping[tuple[str, str], Float[np.ndarray, " neurons"]],
    n_neurons: int,
) -> Float[np.ndarray, " neurons"]:
    """The mean over the words of a label; NaN where no word can be left out or exchanged."""
    by_word: dict[tuple[str, str], list[np.ndarray]] = {}
    for variant in variants:
        fall = level[variant.side, variant.side] - level[variant.text, variant.side]
        by_word.setdefault((variant.side, variant.word), []).append(fall)
    falls = [np.clip(np.mean(of_word, axis=0), 0, 1) for of_word in by_word.values()]
    return np.asarray(np.mean(falls, axis=0)) if falls else np.full(n_neurons, np.nan)


def _ranges(
    labeled: Sequence[Explanation], session: Session
) -> tuple[Float[np.ndarray, " neurons"], Float[np.ndarray, " neurons"]]:
    """The median activation of each neuron on the probing set, and how far its exemplars lie above."""
    exemplars = session.exemplars([e.neuron for e in labeled])
    low = np.asarray(
        [np.median(session.activations(e.neuron.layer).values[:, e.neuron.unit]) for e in labeled], float
    )
    high = np.asarray(
        [exemplars[e.neuron].mean_activation if e.neuron in exemplars else np.nan for e in labeled]
    )
    return low, np.where(high > low, high - low, np.nan)


def _cards(
    tables: _Tables,
    labeled: Sequence[Explanation],
    texts: Sequence[str],
    n_labels: int,
    description: Description,
) -> list[Scorecard]:
    return [
        card_of_table(
            "counterfactual", name, tables[name], labeled, texts, n_labels, description,
            unit="share", headline=name == "score",
        )
        for name in ("score", "necessity", "sufficiency")
    ]  # fmt: skip


def _attribute_rows(
    explanation: Explanation,
    needed: Mapping[str, Float[np.ndarray, " neurons"]],
    kept: Mapping[str, Float[np.ndarray, " neurons"]],
    row: int,
) -> list[Mapping[str, object]]:
    """What each attribute that the label names, and each facet that it leaves open, does to one neuron."""
    return [
        {
            "neuron": str(explanation.neuron),
            "label": explanation.labels[0],
            "changed": name,
            "named": named,
            "value": float(values[row]),
        }
        for named, of_label in ((True, needed), (False, kept))
        for name, values in of_label.items()
    ]


def _agreement(
    exact: Float[np.ndarray, "neurons texts"],
    by_words: Float[np.ndarray, "neurons texts"],
    labeled: Sequence[Explanation],
    texts: Sequence[str],
) -> Table:
    """The correlation over neurons of what both ways of asking say of the neurons' own labels."""
    own = [texts.index(e.labels[0]) for e in labeled]
    pairs = np.stack([table[range(len(own)), own] for table in (exact, by_words)])
    pairs = pairs[:, ~np.isnan(pairs).any(axis=0)]
    known = pairs.shape[1] > 2 and bool(np.all(np.ptp(pairs, axis=1) > 0))
    found = pearsonr(*pairs) if known else None
    ends = found.confidence_interval() if found else (float("nan"),) * 2
    return Table(
        "counterfactual_agreement",
        [
            {
                "correlation of words with necessity": float(found.statistic) if found else float("nan"),
                "low": float(ends[0]),
                "high": float(ends[1]),
                "neurons": pairs.shape[1],
            }
        ],
    )
