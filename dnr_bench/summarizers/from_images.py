"""Candidates straight from a neuron's exemplars, by a chat model that sees images (DnD A.4.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from dnr_bench.chats.answers import AnswerBook, Replay
from dnr_bench.chats.prompts import read_prompt
from dnr_bench.chats.sampling import LabelSampling
from dnr_bench.data.images import Image, View
from dnr_bench.infra.digests import fingerprint_of, pixels_digest
from dnr_bench.infra.store import Store
from dnr_bench.protocols import Chat


class ImageProposer:
    """Asks `chat` for one label per sample, showing it all exemplars, each time in another order.

    The settings are those of `LanguageModelSummarizer`; no captioner is asked.
    """

    def __init__(
        self,
        chat: Chat,
        propose: str,
        temperature: float,
        max_words: int,
        attempts: int,
        store: Store,
        replay: Replay,
    ) -> None:
        self.sampling = LabelSampling(temperature, max_words, attempts)
        self.prompt = read_prompt(propose, "propose", [])
        self.book = AnswerBook(chat, store, replay)
        self.usage = self.book.usage
        self.fingerprint = fingerprint_of(
            "from_images",
            {
                "chat": chat.fingerprint,
                "propose": self.prompt,
                **asdict(self.sampling),
            },
        )

    def propose(self, views: Sequence[Sequence[View]], n: int, seed: int) -> list[list[str]]:
        """For each neuron's exemplars at most `n` distinct concepts, in the order of the samples."""
        names = [[pixels_digest(view.pixels) for view in of_neuron] for of_neuron in views]

        def show(item: int, order: Sequence[int]) -> tuple[str, tuple[Image, ...]]:
            return self.prompt, tuple(views[item][i].pixels for i in order)

        return self.sampling.labels(self.book, names, show, n, seed)
