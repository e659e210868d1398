"""Labels of another method, from a file, so that the same evaluators judge them."""

from __future__ import annotations

from collections.abc import Sequence

from dnr_bench.data.explanation import Explanation, ScoredCandidate
from dnr_bench.data.neuron import Layer, Neuron
from dnr_bench.methods.labeling import LabelSettings
from dnr_bench.proposals.label_file import LabelFile
from dnr_bench.session import Session


class Precomputed:
    """The labels of a file; neurons that it has none for are unscored.

    path ... first_unit: see `LabelFile`. settings: how many labels a neuron gets.
    """

    def __init__(
        self,
        path: str,
        labels: Sequence[str],
        unit_column: str,
        layer_column: str | None,
        layer: str | None,
        first_unit: int,
        settings: LabelSettings,
    ) -> None:
        self.file = LabelFile(path, labels, unit_column, layer_column, layer, first_unit)
        self.settings = settings

    def check(self, neurons: Sequence[Neuron], layers: Sequence[Layer]) -> None:
        """At least one neuron of the run must have a label, and every label a unit."""
        self.file.concepts(neurons, layers)

    def explain(self, neurons: Sequence[Neuron], session: Session) -> list[Explanation]:
        """One explanation per neuron, in order; scores only say which label comes first."""
        return [self._explanation(neuron) for neuron in neurons]

    def _explanation(self, neuron: Neuron) -> Explanation:
        texts = self.file.labels_of.get(neuron, ())
        candidates = tuple(ScoredCandidate(text, "method", -float(i)) for i, text in enumerate(texts))
        unscored = None if texts else f"no label in {self.file.path}"
        return Explanation(neuron, candidates, tuple(texts[: self.settings.n_labels]), unscored)
