"""Labels of another method, from a file, so that the same evaluators judge them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from dnr_bench.errors import UsageError
from dnr_bench.label_files import LabelFile, check_units
from dnr_bench.pipeline import DescribeAndDissect
from dnr_bench.types import Explanation, Layer, Neuron, ScoredCandidate


class Precomputed:
    """The labels of a file; neurons that it has none for are unscored."""

    has_candidates = False

    def __init__(
        self,
        path: str,
        labels: Sequence[str],
        unit_column: str,
        layer_column: str | None,
        layer: str | None,
        first_unit: int,
    ) -> None:
        self.file = LabelFile(path, labels, unit_column, layer_column, layer, first_unit)

    def check(self, neurons: Sequence[Neuron], layers: Sequence[Layer]) -> None:
        """At least one neuron of the run must have a label, and every label a unit."""
        check_units(self._labels, layers, f"method.path={self.file.path!r}")
        if not any(self._labels.get(neuron) for neuron in neurons):
            named = sorted({neuron.layer for neuron in self._labels})
            raise UsageError(
                f"method.path={self.file.path!r} has labels for the layers {', '.join(named)}, but for none"
                f" of this run's neurons ({neurons[0]} ...)"
            )

    def explain(self, neurons: Sequence[Neuron], pipeline: DescribeAndDissect) -> list[Explanation]:
        """One explanation a neuron, in order; scores only say which label comes first."""
        n_labels = pipeline.settings.labels.n_labels
        return [self._explanation(neuron, self._labels.get(neuron, ()), n_labels) for neuron in neurons]

    @cached_property
    def _labels(self) -> dict[Neuron, tuple[str, ...]]:
        return self.file.read()

    def _explanation(self, neuron: Neuron, texts: Sequence[str], n_labels: int) -> Explanation:
        candidates = tuple(ScoredCandidate(text, "method", -float(i)) for i, text in enumerate(texts))
        unscored = None if texts else f"no label in {self.file.path}"
        return Explanation(neuron, candidates, tuple(texts[:n_labels]), unscored)
