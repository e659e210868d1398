"""The next concepts to try, from concepts that were tried and how well each did (LINE, 2026)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from dnr_bench.chats.answers import AnswerBook, Replay
from dnr_bench.chats.prompts import examples_in, filled, read_prompt
from dnr_bench.chats.sampling import LabelSampling
from dnr_bench.data.images import Image
from dnr_bench.infra.ranges import check_range
from dnr_bench.infra.store import Store
from dnr_bench.protocols import Chat
from dnr_bench.stages.caption_contrast import CaptionContrast

#: Concepts that were tried for a neuron, each with its score, best first.
History = Sequence[tuple[str, float]]
#: So many of the best words are combined.
_WORDS = 4


class WordConsensus:
    """Combines the words whose concepts did better than concepts without them.

    Tried are the best concept without one of its words, with another good word, the best words together, and
    "A or B" of the two best concepts that share no word. contrast: tells which words count.
    """

    def __init__(self, contrast: CaptionContrast) -> None:
        self.wording = contrast.wording

    def next_concepts(self, histories: Sequence[History], n: int, seed: int) -> list[list[str]]:
        """For each neuron at most `n` concepts of words that were not tried together."""
        return [self._next(history, n) for history in histories]

    def _next(self, history: History, n: int) -> list[str]:
        if not history:
            return []
        tried = {self.wording.said(text) for text, _ in history}
        found: dict[str, str] = {}
        for text in self._combined(history):
            said = self.wording.said(text)
            if said and said not in tried:
                found.setdefault(said, text)
        return list(found.values())[:n]

    def _combined(self, history: History) -> Iterator[str]:
        good = self._good_words(history)
        best = self.wording.words(history[0][0])
        if len(best) > 1:
            for word in reversed(best):
                yield " ".join(other for other in best if other != word)
        for word in good:
            if word not in best:
                yield self._in_order([*best, word])
        for size in (2, 3, 1):
            yield self._in_order(good[:size])
        terms = set(self.wording.terms(history[0][0]))
        apart = next((text for text, _ in history if not terms & set(self.wording.terms(text))), None)
        if apart is not None:
            yield f"{history[0][0]} or {apart}"

    def _good_words(self, history: History) -> list[str]:
        """The words with which concepts do better than without, best first."""
        said = [(set(self.wording.words(text)), score) for text, score in history]
        gains = {}
        for word in dict.fromkeys(w for text, _ in history for w in self.wording.words(text)):
            with_it = [score for words, score in said if word in words]
            without = [score for words, score in said if word not in words]
            gains[word] = float(np.mean(with_it)) - (float(np.mean(without)) if without else 0.0)
        return sorted((w for w, gain in gains.items() if gain > 0), key=lambda w: -gains[w])[:_WORDS]

    def _in_order(self, words: Sequence[str]) -> str:
        """Words with a head ("blue background") last."""
        return " ".join(sorted(words, key=lambda word: word.split()[-1] in self.wording.heads))


class ChatProposer:
    """Shows `chat` the best `shown` concepts with their scores, and asks for a concept per sample.

    prompt: with the fields {history} and {tried}. The other settings are those of `LanguageModelSummarizer`.
    """

    def __init__(
        self,
        chat: Chat,
        prompt: str,
        shown: int,
        temperature: float,
        max_words: int,
        attempts: int,
        store: Store,
        replay: Replay,
    ) -> None:
        check_range(1, 1000, shown=shown)
        self.sampling, self.shown = LabelSampling(temperature, max_words, attempts), shown
        self.prompt = read_prompt(prompt, "prompt", ["history", "tried"])
        self.book = AnswerBook(chat, store, replay)
        self.usage = self.book.usage

    def next_concepts(self, histories: Sequence[History], n: int, seed: int) -> list[list[str]]:
        """For each neuron at most `n` distinct concepts, in the order of the samples."""
        lines = [[f"{text}: {score:.2f}" for text, score in history] for history in histories]

        def show(item: int, order: Sequence[int]) -> tuple[str, tuple[Image, ...]]:
            tried = ", ".join(text for text, _ in histories[item])
            return filled(self.prompt, history="\n".join(lines[item][: self.shown]), tried=tried), ()

        return self.sampling.labels(self.book, lines, show, n, seed, examples_in(self.prompt))
