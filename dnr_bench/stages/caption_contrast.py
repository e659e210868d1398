"""What sets a neuron's captions apart: the support of phrases by the exemplars, against captions at large."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Float

from dnr_bench.data.captions import Captions
from dnr_bench.infra.digests import fingerprint_of
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.ranges import check_range
from dnr_bench.infra.store import Store
from dnr_bench.protocols import TextEncoder, knows
from dnr_bench.stages.embeddings import embed_texts
from dnr_bench.statistics.contrast import correlations, excess
from dnr_bench.statistics.wording import Wording


class CaptionContrast:
    """Rates texts by how their presence in captions goes with the neuron's activation.

    The presence of a text in a caption is judged twice: by the words that they share, rare words counting
    more, and by the cosine of their sentence vectors, so that other wordings of a thing count. Of each,
    Pearson's r with the neuron's activation above half of its height is taken over the captions of exemplars
    and of images drawn at random, and the support is the mean of both. "picture" and "white background" have
    little, however many exemplars they fit, since other captions say them as well.

    Args:
        encoder: of sentences; where it does not know the words of the captions, shared words alone count.
        n_images: how many probing images are captioned for contrast; 0: none, and the presence itself counts.
        stopwords: words that say nothing about a picture.
        heads: words that mean something only together with the word before ("blue background").
        store: keeps the vectors of sentences.
    """

    def __init__(
        self,
        encoder: TextEncoder,
        n_images: int,
        stopwords: Sequence[str],
        heads: Sequence[str],
        store: Store,
    ) -> None:
        if isinstance(stopwords, str) or isinstance(heads, str):
            raise UsageError("stopwords and heads must be lists of words")
        check_range(0, 1_000_000, n_images=n_images)
        self.encoder, self.n_images, self.store = encoder, n_images, store
        self.wording = Wording(stopwords, heads)
        self.fingerprint = fingerprint_of(
            "caption_contrast",
            {
                "encoder": encoder.fingerprint,
                "n_images": n_images,
                "stopwords": sorted(stopwords),
                "heads": sorted(heads),
            },
        )

    def with_all_words(self) -> CaptionContrast:
        """The same where every word counts, as captions are read that nothing simplified."""
        return CaptionContrast(self.encoder, self.n_images, [], sorted(self.wording.heads), self.store)

    def supports(
        self, captions: Sequence[Captions], texts: Sequence[Sequence[str]]
    ) -> list[Float[np.ndarray, " texts"]]:
        """The support of each neuron's texts, between -1 and 1; NaN where the neuron has no captions."""
        vectors = self.vectors(captions, texts)
        return [
            Contrast(found, self.wording, vectors).supports(of_neuron)
            if any(text.strip() for text in found.texts) and of_neuron
            else np.full(len(of_neuron), np.nan)
            for found, of_neuron in zip(captions, texts, strict=True)
        ]

    def said(self, texts: Sequence[str], captions: Sequence[str]) -> Float[np.ndarray, "texts captions"]:
        """How far each caption says each text: 1 where it has all its words, 0 as far as any caption does."""
        found = Captions((), others=captions)
        presence = Contrast(found, self.wording, self.vectors([found], [texts])).presence(texts)
        if presence.by_vectors is None:
            return presence.by_words
        base = presence.by_vectors.mean(axis=1, keepdims=True)
        nearer: np.ndarray = (presence.by_vectors - base) / np.maximum(1 - base, 1e-9)
        return np.asarray(np.maximum(presence.by_words, nearer))

    def vectors(
        self, captions: Sequence[Captions], texts: Sequence[Sequence[str]]
    ) -> dict[str, Float[np.ndarray, " dim"]]:
        """The sentence vectors of captions and of the sides of texts; none if it does not know them."""
        shared = {id(found.others): found.others for found in captions}
        said = dict.fromkeys(
            text for found in (*(c.texts for c in captions), *shared.values()) for text in found
        )
        if not said or not knows(self.encoder, list(said)):
            return {}
        unique = list(
            said | dict.fromkeys(side for of_neuron in texts for t in of_neuron for side in sides(t))
        )
        return dict(zip(unique, embed_texts(self.store, self.encoder, unique), strict=True))


def sides(text: str) -> list[str]:
    """The sides of "A or B"; of any other text itself."""
    return text.split(" or ")


@dataclass(frozen=True, eq=False)
class Presence:
    """How far captions say texts, by shared words and (None where it is unknown) by sentence vectors."""

    by_words: Float[np.ndarray, "texts captions"]
    by_vectors: Float[np.ndarray, "texts captions"] | None

    def __getitem__(self, rows: Sequence[int]) -> Presence:
        vectors = self.by_vectors[rows] if self.by_vectors is not None else None
        return Presence(self.by_words[rows], vectors)

    def either(self, other: Presence) -> Presence:
        """Of disjunctions: as far as one of both is said."""
        vectors = None
        if self.by_vectors is not None and other.by_vectors is not None:
            vectors = np.maximum(self.by_vectors, other.by_vectors)
        return Presence(np.maximum(self.by_words, other.by_words), vectors)


class Contrast:
    """The captions of one neuron: its exemplars' first, then those of other images.

    vectors: of captions and of the texts that will be asked for; empty where only words are compared.
    """

    def __init__(
        self, captions: Captions, wording: Wording, vectors: Mapping[str, Float[np.ndarray, " dim"]]
    ) -> None:
        self.captions, self.wording, self.vectors = captions, wording, vectors
        self.texts = [*captions.texts, *captions.others]
        terms = [wording.terms(text) for text in self.texts]
        counts = Counter(term for of_text in terms for term in of_text)
        self._column = {term: column for column, term in enumerate(counts)}
        self._rarity = {term: np.log((len(terms) + 1) / count) for term, count in counts.items()}
        self._unheard = float(np.log(len(terms) + 1))
        self._said = self._matrix([dict.fromkeys(of_text, 1.0) for of_text in terms])
        if captions.activations is not None and len(captions.others):
            self.excess = excess(captions.activations, captions.other_activations)
        else:  # nothing to hold the captions against: every exemplar counts alike
            self.excess = np.r_[np.ones(len(captions.texts)), np.zeros(len(captions.others))]

    @property
    def weights(self) -> Float[np.ndarray, " exemplars"]:
        """The share of each exemplar in what the neuron's captions say."""
        own = self.excess[: len(self.captions.texts)]
        return own / own.sum() if own.any() else np.full(len(own), 1 / max(len(own), 1))

    def supports(self, texts: Sequence[str]) -> Float[np.ndarray, " texts"]:
        """The support of each text."""
        return self.rated(self.presence(texts))

    def rated(self, presence: Presence) -> Float[np.ndarray, " texts"]:
        """The support of texts whose presence in the captions is known."""
        views = [presence.by_words, presence.by_vectors]
        mean: np.ndarray = np.mean([self._rated(view) for view in views if view is not None], axis=0)
        return mean

    def _rated(self, presence: Float[np.ndarray, "texts captions"]) -> Float[np.ndarray, " texts"]:
        if self.captions.activations is None or not len(self.captions.others):
            own: np.ndarray = presence[:, : len(self.captions.texts)] @ self.weights
            return own
        return correlations(presence, self.excess)

    def presence(self, texts: Sequence[str], *, with_vectors: bool = True) -> Presence:
        """How far each caption says each text; a disjunction as far as the side that it says most of."""
        terms = [self.wording.alternatives(text) for text in texts]
        owners = [row for row, of_text in enumerate(terms) for _ in of_text]
        weights = [
            {term: self._rarity.get(term, self._unheard) for term in side}
            for of_text in terms
            for side in of_text
        ]
        shares = self._matrix([_normalized(side) for side in weights]) @ self._said.T
        by_words = _highest(np.asarray(shares.todense()), owners, len(texts))
        if not (self.vectors and with_vectors):
            return Presence(by_words, None)
        spoken = [sides(text) for text in texts]
        mine = np.stack([self.vectors[side] for of_text in spoken for side in of_text])
        captions = np.stack([self.vectors[text] for text in self.texts])
        owners = [row for row, of_text in enumerate(spoken) for _ in of_text]
        return Presence(by_words, _highest(mine @ captions.T, owners, len(texts)))

    def likeness(self, texts: Sequence[str]) -> Float[np.ndarray, "texts texts"]:
        """Cosines of the sentence vectors of texts with each other."""
        mine = np.stack([_mean([self.vectors[side] for side in sides(text)]) for text in texts])
        cosines: np.ndarray = mine @ mine.T
        return cosines

    def _matrix(self, rows: Sequence[Mapping[str, float]]) -> scipy.sparse.csr_matrix:
        """One row per text, one column per term; terms that no caption says have none."""
        found = [
            (row, self._column[t], v)
            for row, of in enumerate(rows)
            for t, v in of.items()
            if t in self._column
        ]
        row, column, value = zip(*found, strict=True) if found else ((), (), ())
        return scipy.sparse.csr_matrix((value, (row, column)), shape=(len(rows), max(len(self._column), 1)))


def _normalized(weights: Mapping[str, float]) -> dict[str, float]:
    total = sum(weights.values())
    return {term: weight / total for term, weight in weights.items()} if total else {}


def _highest(
    values: Float[np.ndarray, "sides captions"], owners: Sequence[int], n: int
) -> Float[np.ndarray, "texts captions"]:
    found = np.zeros((n, values.shape[1]))
    np.maximum.at(found, np.asarray(owners, int), values)
    return found


def _mean(vectors: Sequence[Float[np.ndarray, " dim"]]) -> Float[np.ndarray, " dim"]:
    mean: np.ndarray = np.mean(vectors, axis=0)
    return mean / np.float32(max(float(np.linalg.norm(mean)), 1e-9))
