"""No summarisation: the captions themselves are the candidates (an ablation of step 2B)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


class CaptionsAsCandidates:
    """The most frequent captions, the earlier one first among equals."""

    fingerprint = "captions-1"

    def summarize(self, captions: Sequence[Sequence[str]], n: int, seed: int) -> list[list[str]]:
        """For each neuron's captions the `n` most frequent ones."""
        return [[caption for caption, _ in Counter(of_neuron).most_common(n)] for of_neuron in captions]
