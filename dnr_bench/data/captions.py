"""What captions say of the images that excite a neuron, and of others to hold them against."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, eq=False)
class Captions:
    """The captions of one neuron's exemplars, and captions of other images for contrast.

    texts: one per exemplar, the highest activation first. activations: the neuron's, one per text; None where
    they are not known. others: captions of images drawn at random from the probing set, the same for all
    neurons of a layer; other_activations: the neuron's on these.
    """

    texts: tuple[str, ...]
    activations: Float[np.ndarray, " texts"] | None = None
    others: Sequence[str] = ()
    other_activations: Float[np.ndarray, " others"] = field(default_factory=lambda: np.empty(0))

    @property
    def digest(self) -> str:
        """A name for all of this."""
        known = self.activations if self.activations is not None else np.empty(0)
        values = [*known.astype(float).tolist(), *self.other_activations.astype(float).tolist()]
        text = json.dumps([self.texts, list(self.others), values])
        return sha256(text.encode(errors="surrogatepass")).hexdigest()
