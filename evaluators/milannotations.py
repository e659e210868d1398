"""Labels against what people wrote of the same units (MILANNOTATIONS; DnD A.3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise

import numpy as np
from jaxtyping import Float

from dnr_bench.data.explanation import Description, Explanation
from dnr_bench.data.neuron import Neuron
from dnr_bench.data.scorecard import Scorecard, Table
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.neuron_names import check_units, is_unit
from dnr_bench.infra.text_files import csv_rows, read_text
from dnr_bench.protocols import Target, TextEncoder, judged_by
from dnr_bench.session import Evaluator, Session
from dnr_bench.statistics.controls import shuffled_mean, word_controls
from evaluators.text_agreement import able

#: Words that stand in fewer annotations are no candidates for the best single label.
_MIN_COUNT = 5


class Milannotations(Evaluator):
    """The mean cosine of a unit's (first) label and its annotations, for CLIP and a sentence encoder.

    `path` is a CSV file of layer, unit and text with any number of rows a unit. Each score stands beside
    the same for labels dealt at random, for the best single word and each of `constants` as the label of
    every unit, and for the annotators: the mean cosine of each one's text with the others' of the unit.
    """

    def __init__(
        self,
        path: str,
        layer_column: str,
        unit_column: str,
        text_column: str,
        first_unit: int,
        constants: Sequence[str],
        sentence_encoder: TextEncoder,
    ) -> None:
        self.texts = read_annotations(path, (layer_column, unit_column, text_column), first_unit)
        self.path, self.constants, self.sentence_encoder = path, list(constants), sentence_encoder

    def check(self, neurons: Sequence[Neuron], target: Target) -> None:
        """Some neuron must be annotated, and annotations must be of units that the layers have."""
        check_units(self.texts, target.layers(), f"milannotations.path={self.path!r}")
        if not set(neurons) & self.texts.keys():
            layers = ", ".join(sorted({neuron.layer for neuron in self.texts}))
            raise UsageError(
                f"milannotations.path={self.path!r} is about the layers {layers}, but none of its units is"
                f" among this run's ({neurons[0]} ...)"
            )

    def judged(self, description: Description, session: Session) -> list[Scorecard]:
        """All of its metrics."""
        return [card for card in self.evaluate(description, session) if isinstance(card, Scorecard)]

    def evaluate(self, description: Description, session: Session) -> list[Scorecard | Table]:
        """A scorecard per encoder, and a table of what else a label could have been."""
        annotated = [e for e in description.explanations if e.neuron in self.texts]
        if not any(e.labels for e in annotated):
            return []
        cards: list[Scorecard | Table] = []
        rows: list[Mapping[str, str | float]] = []
        texts = [text for e in annotated for text in self.texts[e.neuron]]
        for metric, encoder in (("clip_cos", session.encoder), ("sentence_cos", self.sentence_encoder)):
            if not able(encoder, texts, f"milannotations.{metric}", session):
                continue
            card, constant = self._card(metric, encoder, annotated, session)
            cards.append(card)
            found = {
                "labels of this run": float(np.nanmean(card.values)),
                "labels dealt at random": card.chance,
                f"“{constant}” for every unit": card.controls["best_constant"],
                **{f"“{text}” for every unit": card.controls[f"constant_{text}"] for text in self.constants},
                "a random word for every unit": card.controls["random_word"],
                "the annotators among themselves": card.oracle,
            }
            rows += [
                {"judge": judged_by(encoder), "metric": metric, "labels": name, "mean": value}
                for name, value in found.items()
                if value is not None
            ]
        return [*cards, Table("milannotations", rows)] if cards else []

    def _card(
        self, metric: str, encoder: TextEncoder, annotated: Sequence[Explanation], session: Session
    ) -> tuple[Scorecard, str]:
        texts = [self.texts[e.neuron] for e in annotated]
        of_units = _vectors(texts, encoder, session)
        vectors = np.stack([of_unit.mean(axis=0) for of_unit in of_units])  # its cosines are mean cosines
        labels = [e.labels[0] if e.labels else "nothing" for e in annotated]
        table = vectors @ session.embed_texts(labels, encoder).T
        table[:, [not e.labels for e in annotated]] = np.nan
        scored = [i for i, e in enumerate(annotated) if e.labels]
        words = _frequent_words(texts)
        by_word, by_constant = (
            vectors[scored] @ session.embed_texts(given, encoder).T if given else np.empty((len(scored), 0))
            for given in (words, self.constants)
        )
        named = {
            f"constant_{text}": float(mean)
            for text, mean in zip(self.constants, by_constant.mean(axis=0), strict=True)
        }
        card = Scorecard.of_neurons(
            "milannotations",
            metric,
            annotated,
            np.diagonal(table),
            unit="cosine",
            headline=True,
            higher_is_better=True,
            chance=shuffled_mean(table, scored),
            oracle=_agreement(of_units),
            controls=word_controls(by_word) | named,
            judge=judged_by(encoder),
        )
        return card, words[int(by_word.mean(axis=0).argmax())]


def read_annotations(path: str, columns: Sequence[str], first_unit: int) -> dict[Neuron, list[str]]:
    """The texts of each unit; malformed rows raise `UsageError` with their line numbers."""
    found: dict[Neuron, list[str]] = {}
    wrong: list[int] = []
    for line, cells in csv_rows(read_text(path, "path"), columns, f"path={path!r}"):
        layer, unit, text = (cells[name] if cells else "" for name in columns)
        if not layer or not text or not is_unit(unit) or int(unit) < first_unit:
            wrong.append(line)  # where it has too many values, a comma within a text needs quotes
        else:
            found.setdefault(Neuron(layer, int(unit) - first_unit), []).append(text)
    if wrong:
        shown = ", ".join(map(str, wrong[:10])) + (" ..." if len(wrong) > 10 else "")
        raise UsageError(f"path={path!r} has {len(wrong)} malformed rows: lines {shown}")
    return found


def _vectors(
    texts: Sequence[Sequence[str]], encoder: TextEncoder, session: Session
) -> list[Float[np.ndarray, "_ dim"]]:
    """The vectors of each unit's texts."""
    flat = session.embed_texts([text for of_unit in texts for text in of_unit], encoder)
    starts = np.cumsum([0, *(len(of_unit) for of_unit in texts)])
    return [flat[a:b] for a, b in pairwise(starts)]


def _agreement(of_units: Sequence[Float[np.ndarray, "_ dim"]]) -> float | None:
    """The mean cosine of two annotations of a unit, each unit counting once; None where none has two."""
    means = [np.mean([a @ b for a, b in combinations(own, 2)]) for own in of_units if len(own) > 1]
    return float(np.mean(means)) if means else None


def _frequent_words(texts: Sequence[Sequence[str]]) -> list[str]:
    """The words of the annotations that stand in several of them; all of them where none does."""
    counts = Counter(
        word
        for of_unit in texts
        for text in of_unit
        for word in {word.strip(".,;:!?()'\"").lower() for word in text.split()}
        if word
    )
    frequent = sorted(word for word, count in counts.items() if count >= _MIN_COUNT)
    return frequent or sorted(counts)
