"""Captions by a chat model that sees images (DnD A.4.4)."""

from __future__ import annotations

from collections.abc import Sequence

from dnr_bench.chats.answers import AnswerBook, Replay
from dnr_bench.chats.labels import first_line
from dnr_bench.chats.prompts import read_prompt
from dnr_bench.parts import Chat
from dnr_bench.store import digest
from dnr_bench.types import Question, View


class ChatCaptioner:
    """One question an image, at temperature 0. answers: the store of answers; replay: "only" asks nothing."""

    def __init__(self, chat: Chat, caption: str, answers: str, replay: Replay) -> None:
        self.prompt = read_prompt(caption, "caption", [])
        self.book = AnswerBook(chat, answers, replay)
        self.usage = self.book.usage
        self.fingerprint = digest({"chat": chat.fingerprint, "caption": self.prompt, "version": 1})

    def caption(self, views: Sequence[View]) -> list[str]:
        """One caption a view, in order; empty where the model says nothing."""
        answers = self.book.answers([Question(self.prompt, (view.pixels,)) for view in views])
        return [first_line(answer.text) for answer in answers]
