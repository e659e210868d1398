"""No summarization: the captions themselves are the candidates (an ablation of step 2B)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dnr_bench.data.captions import Captions
from dnr_bench.infra.digests import fingerprint_of


class CaptionsAsCandidates:
    """The most frequent captions, the earlier one first among equals."""

    fingerprint = fingerprint_of("captions")
    needs_others = False

    def summarize(self, captions: Sequence[Captions], n: int, seed: int) -> list[list[str]]:
        """For each neuron's captions the `n` most frequent ones, whatever their case and spaces."""
        return [_most_frequent(of_neuron.texts, n) for of_neuron in captions]


def _most_frequent(captions: Sequence[str], n: int) -> list[str]:
    written = [" ".join(caption.split()) for caption in captions if caption.strip()]
    first = {caption.casefold(): caption for caption in reversed(written)}
    return [first[name] for name, _ in Counter(caption.casefold() for caption in written).most_common(n)]
