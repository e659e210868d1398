"""Captions as terms and phrases: what a text says, whatever the form of its words. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import snowballstemmer

_WORD = re.compile(r"[^\W_]+(?:[-'][^\W_]+)*")
_EXCEPTION = re.compile(
    r"\b(?:but not|not|except(?: for)?|without|non)[\s-]+(?:(?:on|in|an?|the)\s+)*([^\W_]+)"
)
_PAUSE = re.compile(r"[,.;:!?()\[\]\"/]+")
#: A phrase has at most so many words that say something, and so many words at all.
_MOST_TERMS, _MOST_WORDS = 4, 6
#: A caption with more words, or a phrase with more characters, is no label.
_LONGEST_LABEL, _MOST_CHARACTERS = 12, 80


class Wording:
    """Reads captions.

    Args:
        stopwords: words that say nothing about a picture.
        heads: words that mean something only together with the word before ("blue background").
    """

    def __init__(self, stopwords: Sequence[str], heads: Sequence[str]) -> None:
        self.stopwords, self.heads = frozenset(stopwords), frozenset(heads)
        self._terms: dict[str, tuple[str, ...]] = {}

    def words(self, text: str) -> list[str]:
        """The distinct words of a text in order, without stop words; heads with the word before."""
        found = _WORD.findall(text.lower())
        pairs = zip(found, [*found[1:], ""], strict=False)  # a caption may be empty
        terms = [
            f"{word} {following}" if following in self.heads else word
            for word, following in pairs
            if word not in self.stopwords and word not in self.heads
        ]
        return list(dict.fromkeys(terms))

    def terms(self, text: str) -> tuple[str, ...]:
        """The stems of a text's words: "striped rings" and "ring with stripes" have the same."""
        known = self._terms.get(text)  # the same captions are held against many neurons
        if known is None:
            known = tuple(dict.fromkeys(" ".join(map(_stem, word.split())) for word in self.words(text)))
            self._terms[text] = known
        return known

    def said(self, text: str) -> str:
        """What a text says, as its terms in alphabetical order: equal for texts of the same words.

        An exception is another term: "circle but not red" is no "red circle".
        """
        marked = _EXCEPTION.sub(r"not\1", text.lower())
        return " or ".join(sorted(" ".join(sorted(side)) for side in self.alternatives(marked)))

    def rules_out(self, text: str) -> bool:
        """Whether a text names an exception: "circle but not red"."""
        return _EXCEPTION.search(text.lower()) is not None

    def alternatives(self, text: str) -> list[tuple[str, ...]]:
        """The terms of each side of "A or B"; of any other text its terms alone."""
        return [self.terms(part) for part in re.split(r"\bor\b", text.lower())]

    def phrases(self, caption: str) -> list[str]:
        """The distinct phrases of a caption: runs of its words that begin and end with no stop word.

        The whole caption is among them if it is short enough for a label; an article before it is left out.
        """
        parts = [_WORD.findall(part) for part in _PAUSE.split(caption.lower())]
        found = [phrase for words in parts for phrase in self._runs(words)]
        whole = [word for words in parts for word in words]
        while whole and whole[0] in self.stopwords:
            whole = whole[1:]
        if 0 < len(whole) <= _LONGEST_LABEL:
            found.append(" ".join(whole))
        return [phrase for phrase in dict.fromkeys(found) if len(phrase) <= _MOST_CHARACTERS]

    def _runs(self, words: Sequence[str]) -> Iterator[str]:
        for start, first in enumerate(words):
            if first in self.stopwords or first in self.heads:
                continue
            terms = 0
            for end in range(start, min(start + _MOST_WORDS, len(words))):
                terms += words[end] not in self.stopwords
                if terms > _MOST_TERMS:
                    break
                cut_off = end + 1 < len(words) and words[end + 1] in self.heads
                if words[end] not in self.stopwords and not cut_off:
                    yield " ".join(words[start : end + 1])


@dataclass(frozen=True)
class Variant:
    """One side of a label ("A or B" has two), and the same without one of its words.

    text: the side with the word left out, or, where nothing else is left, exchanged for another word.
    """

    side: str
    word: str
    text: str


def word_variants(
    label: str, wording: Wording, others: Sequence[str], n_exchanged: int, rng: np.random.Generator
) -> list[Variant]:
    """For each word of a label what the label is without it.

    A side of one word becomes `n_exchanged` of `others`, drawn at random from those that the label has not.
    """
    found = []
    said = set(wording.words(label))
    for side in re.split(r"\s+or\s+", label.strip()):
        words = wording.words(side)
        if len(words) == 1:
            free = [other for other in others if other not in said]
            drawn = rng.permutation(len(free))[:n_exchanged]
            found += [Variant(side, words[0], free[place]) for place in sorted(drawn)]
        else:
            found += [Variant(side, word, _without(side, word, wording)) for word in words]
    return found


def _without(text: str, word: str, wording: Wording) -> str:
    """The text with a word cut out, and without words at its ends that say nothing."""
    left = re.sub(rf"\b{re.escape(word)}\b", " ", text, flags=re.IGNORECASE).split()
    while left and left[0].lower() in wording.stopwords:
        left = left[1:]
    while left and left[-1].lower() in wording.stopwords:
        left = left[:-1]
    return " ".join(left)


@cache
def _stem(word: str) -> str:
    stem: str = snowballstemmer.stemmer("english").stemWord(word)
    return stem
