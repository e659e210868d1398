"""Candidates without a language model: the words that a neuron's captions share."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import combinations

from dnr_bench.infra.digests import fingerprint_of
from dnr_bench.infra.errors import UsageError

#: A word of a disjunction stands in at least this share of the captions, and both together in most.
_MIN_PART = 0.2


class ConsensusSummarizer:
    """Deterministic: what most captions share, at several thresholds, then single words by frequency.

    thresholds: shares of the captions, from high to low; each proposes all terms at least that common.
    stopwords: words that say nothing about a picture.
    heads: words that mean something only together with the word before ("blue background").
    """

    def __init__(self, thresholds: Sequence[float], stopwords: Sequence[str], heads: Sequence[str]) -> None:
        if not thresholds or not all(0 < threshold <= 1 for threshold in thresholds):
            raise UsageError(f"thresholds={list(thresholds)} must be one or more values in 0..1, 0 excluded")
        if isinstance(stopwords, str) or isinstance(heads, str):
            raise UsageError("stopwords and heads must be lists of words")
        self.thresholds = sorted(thresholds, reverse=True)
        self.stopwords, self.heads = frozenset(stopwords), frozenset(heads)
        self.fingerprint = fingerprint_of(
            "consensus",
            {
                "thresholds": self.thresholds,
                "stopwords": sorted(stopwords),
                "heads": sorted(heads),
            },
        )

    def summarize(self, captions: Sequence[Sequence[str]], n: int, seed: int) -> list[list[str]]:
        """For each neuron's captions at most `n` distinct concepts, the most fitting first."""
        return [self._concepts(of_neuron)[:n] for of_neuron in captions]

    def terms(self, caption: str) -> list[str]:
        """The distinct terms of a caption in order: its words without stop words, heads with theirs."""
        words = re.findall(r"[^\W_]+(?:[-'][^\W_]+)*", caption.lower())
        found = []
        for word, following in zip(words, [*words[1:], ""], strict=False):  # a caption may be empty
            if word not in self.stopwords and word not in self.heads:
                found.append(f"{word} {following}" if following in self.heads else word)
        return list(dict.fromkeys(found))

    def _concepts(self, captions: Sequence[str]) -> list[str]:
        lists = [self.terms(caption) for caption in captions]
        shared = [self._phrase(self._common(lists, threshold), lists) for threshold in self.thresholds]
        either = self._disjunctions(lists) if not shared[0] else []
        counts = Counter(term for terms in lists for term in terms)
        singles = sorted(counts, key=lambda term: (-counts[term], term))
        return [
            concept for concept in dict.fromkeys([*shared[:1], *either, *shared[1:], *singles]) if concept
        ]

    def _common(self, lists: Sequence[Sequence[str]], threshold: float) -> set[str]:
        counts = Counter(term for terms in lists for term in terms)
        return {term for term, count in counts.items() if count >= threshold * len(lists)}

    def _phrase(self, terms: set[str], lists: Sequence[Sequence[str]]) -> str:
        """The terms in the order in which captions tend to name them, those with a head last."""

        def order(term: str) -> tuple[bool, float, str]:
            return term.split()[-1] in self.heads, self._place(term, lists), term

        return " ".join(sorted(terms, key=order))

    def _disjunctions(self, lists: Sequence[Sequence[str]]) -> list[str]:
        """ "A or B" for the two terms that never meet and together stand in most captions.

        Where each of the two groups of captions shares as many terms, the second form names them all, the
        one that ends in a noun first; otherwise it would be read in another way ("red or blue circle").
        """
        holders: dict[str, set[int]] = {}
        for index, terms in enumerate(lists):
            for term in terms:
                holders.setdefault(term, set()).add(index)
        frequent = sorted(term for term in holders if len(holders[term]) >= _MIN_PART * len(lists))
        pairs = [
            (a, b)
            for a, b in combinations(frequent, 2)
            if not holders[a] & holders[b] and len(holders[a] | holders[b]) >= self.thresholds[0] * len(lists)
        ]
        if not pairs:
            return []
        best = min(
            pairs, key=lambda p: (-len(holders[p[0]] | holders[p[1]]), -min(len(holders[t]) for t in p), p)
        )
        groups = [[lists[i] for i in sorted(holders[term])] for term in best]
        shared = [self._common(group, self.thresholds[0]) for group in groups]
        either = [" or ".join(best)]
        if len(shared[0]) == len(shared[1]):
            phrases = [self._phrase(terms, group) for terms, group in zip(shared, groups, strict=True)]
            ends = [self._place(phrase.split()[-1], lists) for phrase in phrases]
            either.append(" or ".join(phrases if ends[0] >= ends[1] else phrases[::-1]))
        return either

    def _place(self, word: str, lists: Sequence[Sequence[str]]) -> float:
        """Where captions tend to name a word: nouns stand behind adjectives."""
        positions = [terms.index(word) for terms in lists if word in terms]
        return sum(positions) / len(positions) if positions else math.inf
