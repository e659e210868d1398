"""Do neurons that look alike get like labels, and others not? (DnD A.8: .4406)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from dnr_bench.data.explanation import Description
from dnr_bench.data.neuron import Neuron
from dnr_bench.data.scorecard import Scorecard
from dnr_bench.infra.ranges import check_range
from dnr_bench.protocols import judged_by
from dnr_bench.session import Evaluator, Session

_DEALS = 20
#: With fewer pairs a correlation says nothing.
_FEWEST = 3


class Diversity(Evaluator):
    """Over random pairs of a layer's neurons, Pearson's r of image similarity and label similarity.

    Image similarity: mean CLIP cosine of one neuron's exemplars with the other's; label similarity: CLIP
    cosine of the (first) labels; both less their layer's mean. At most `pairs` pairs, no neuron in two of
    them, and the same ones in every run of the same neurons and seed. The value of a pair is its jackknife
    pseudo-value, so that the mean is r (less its bias) and the interval is one of r. chance: labels dealt at
    random within their layer; oracle: true labels, over the pairs of neurons that have one.
    """

    def __init__(self, pairs: int) -> None:
        check_range(2, 10_000_000, pairs=pairs)
        self.pairs = pairs

    def evaluate(self, description: Description, session: Session) -> list[Scorecard]:
        """One scorecard; none where there are fewer than three pairs of labeled neurons."""
        labels = {e.neuron: e.labels[0] for e in description.explanations if e.labels}
        shown = session.exemplar_vectors(list(labels))
        pairs = self._pairs([e.neuron for e in description.explanations], session.seed)
        view = _View.of([pair for pair in pairs if all(n in shown for n in pair)][: self.pairs], shown)
        if len(view.pairs) < _FEWEST:
            session.notices.warn(
                f"diversity is left out: {len(view.pairs)} pairs of labeled neurons are too few for a"
                f" correlation; it needs {_FEWEST} ({2 * _FEWEST} neurons of a layer)"
            )
            return []
        values = pseudo_values(view.of_images, view.of_labels(labels, session), view.layers)
        known = view.only(description.truth)
        names = [f"{a} {b}" for a, b in view.pairs]
        return [
            Scorecard(
                group="diversity",
                metric="correlation",
                unit="correlation",
                headline=True,
                higher_is_better=True,
                item_kind="pair",
                items=names,
                values=values,
                clusters=names,
                chance=float(np.mean([view.r(dealt, session) for dealt in _deals(labels, session.seed)])),
                oracle=known.r(description.truth, session) if len(known.pairs) > 2 else None,
                judge=judged_by(session.encoder),
            )
        ]

    def _pairs(self, neurons: Sequence[Neuron], seed: int) -> list[tuple[Neuron, Neuron]]:
        """Pairs of neurons of one layer in random order, whether they have labels or not."""
        rng = np.random.default_rng(seed)
        found: list[tuple[Neuron, Neuron]] = []
        for layer in dict.fromkeys(neuron.layer for neuron in neurons):
            members = [neuron for neuron in neurons if neuron.layer == layer]
            order = [members[i] for i in rng.permutation(len(members))]
            found += zip(order[::2], order[1::2], strict=False)
        return [found[i] for i in rng.permutation(len(found))]


@dataclass(frozen=True)
class _View:
    """Pairs with the similarity of their exemplars, and the number of the layer of each."""

    pairs: Sequence[tuple[Neuron, Neuron]]
    of_images: Float[np.ndarray, " pairs"]
    layers: Int[np.ndarray, " pairs"]

    @classmethod
    def of(cls, pairs: Sequence[tuple[Neuron, Neuron]], shown: Mapping[Neuron, np.ndarray]) -> _View:
        names = list(dict.fromkeys(a.layer for a, _ in pairs))
        similar = np.asarray([float(shown[a].astype(float) @ shown[b]) for a, b in pairs])
        return cls(pairs, similar, np.asarray([names.index(a.layer) for a, _ in pairs], int))

    def only(self, known: Mapping[Neuron, str]) -> _View:
        """The pairs of which both neurons are known."""
        kept = [i for i, pair in enumerate(self.pairs) if all(neuron in known for neuron in pair)]
        return _View([self.pairs[i] for i in kept], self.of_images[kept], self.layers[kept])

    def of_labels(self, labels: Mapping[Neuron, str], session: Session) -> Float[np.ndarray, " pairs"]:
        first, second = (session.embed_texts([labels[pair[side]] for pair in self.pairs]) for side in (0, 1))
        return np.asarray((first.astype(float) * second).sum(axis=1))

    def r(self, labels: Mapping[Neuron, str], session: Session) -> float:
        return pearson_within(self.of_images, self.of_labels(labels, session), self.layers)


def pearson_within(
    a: Float[np.ndarray, " pairs"], b: Float[np.ndarray, " pairs"], groups: Int[np.ndarray, " pairs"]
) -> float:
    """Pearson's r of what is left of both when the mean of each group is taken away; 0 where nothing is."""
    sizes = np.maximum(np.bincount(groups), 1)
    left, right = (x - (np.bincount(groups, x) / sizes)[groups] for x in (a, b))
    scale = np.sqrt((left**2).sum() * (right**2).sum())
    return float(left @ right / scale) if scale > 1e-12 else 0.0


def pseudo_values(
    a: Float[np.ndarray, " pairs"], b: Float[np.ndarray, " pairs"], groups: Int[np.ndarray, " pairs"]
) -> Float[np.ndarray, " pairs"]:
    """n r - (n - 1) r without each pair: their mean estimates r, their spread how sure it is (Tukey 1958)."""
    n, whole = len(a), pearson_within(a, b, groups)
    without = [pearson_within(*(np.delete(x, i) for x in (a, b, groups))) for i in range(n)]
    return n * whole - (n - 1) * np.asarray(without)


def _deals(labels: Mapping[Neuron, str], seed: int) -> list[dict[Neuron, str]]:
    """The labels dealt anew among the neurons of each layer."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(_DEALS):
        dealt: dict[Neuron, str] = {}
        for layer in dict.fromkeys(neuron.layer for neuron in labels):
            members = [neuron for neuron in labels if neuron.layer == layer]
            order = rng.permutation(len(members))
            dealt |= {neuron: labels[members[i]] for neuron, i in zip(members, order, strict=True)}
        found.append(dealt)
    return found
