"""Captions by a chat model that sees images (DnD A.4.4)."""

from __future__ import annotations

from collections.abc import Sequence

from dnr_bench.chats.answers import AnswerBook, Replay
from dnr_bench.chats.prompts import read_prompt
from dnr_bench.chats.sampling import first_line
from dnr_bench.data.chat import Question
from dnr_bench.data.images import View
from dnr_bench.infra.digests import fingerprint_of
from dnr_bench.infra.store import Store
from dnr_bench.protocols import Chat


class ChatCaptioner:
    """One question per image, at temperature 0. store: keeps the answers; replay: "only" asks nothing."""

    def __init__(self, chat: Chat, caption: str, store: Store, replay: Replay) -> None:
        self.prompt = read_prompt(caption, "caption", [])
        self.book = AnswerBook(chat, store, replay)
        self.usage = self.book.usage
        self.fingerprint = fingerprint_of(
            "chat_captioner", {"chat": chat.fingerprint, "caption": self.prompt}
        )

    def caption(self, views: Sequence[View]) -> list[str]:
        """One caption per view, in order; empty where the model says nothing."""
        answers = self.book.answers([Question(self.prompt, (view.pixels,)) for view in views])
        return [first_line(answer.text) for answer in answers]
