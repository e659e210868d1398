"""Captions of neurons for summarizers."""

from __future__ import annotations

from collections.abc import Sequence

from dnr_bench.data.captions import Captions


def said(*neurons: Sequence[str]) -> list[Captions]:
    """Captions of exemplars alone: without activations and without captions of other images."""
    return [Captions(tuple(texts)) for texts in neurons]
