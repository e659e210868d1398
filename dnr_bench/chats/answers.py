"""The book of answers: what a chat model was asked once, it is never asked again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Literal

from dnr_bench.data.chat import Answer, Call, Question, Usage
from dnr_bench.infra.digests import Key, pixels_digest
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.store import Store
from dnr_bench.protocols import Chat

_STAGE = "answers"
#: Questions that are claimed at a time, so that another run on the same store does not ask them, too.
_CLAIMED = 256

#: "only": answers come from the store alone, and one that is not there is an error.
Replay = Literal["only"] | None


class AnswerBook:
    """Asks `chat` what the store does not know yet; every answer is kept as soon as it is there.

    An answer is found by model, question, images, temperature and seed.
    """

    def __init__(self, chat: Chat, store: Store, replay: Replay) -> None:
        self.chat, self.replay, self.store = chat, replay, store
        self.usage = Usage(chat.name)
        if replay != "only":
            chat.check()

    def answers(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question, in order."""
        keys = [self._key(question) for question in questions]
        if self.replay == "only":
            self._check_known(questions, keys)

        def asked_now(indices: list[int]) -> Iterator[tuple[int, dict[str, object]]]:
            for place, answer in self.chat.ask([questions[i] for i in indices]):
                question, key = questions[indices[place]], keys[indices[place]]
                self.usage.calls.append(
                    Call(question.text, key["images"], question.temperature, question.seed, answer)
                )
                yield indices[place], asdict(answer)

        before = len(self.usage.calls)
        found = self.store.fill_as_done(_STAGE, keys, asked_now, batch=_CLAIMED)
        self.usage.stored += len(questions) - (len(self.usage.calls) - before)
        answers = [Answer(**entry) for entry in found]
        self.usage.refused += sum(answer.refused for answer in answers)
        return answers

    def _check_known(self, questions: Sequence[Question], keys: Sequence[Key]) -> None:
        """Raises `UsageError` where an answer is not in the store."""
        if missing := self.store.missing(_STAGE, keys):
            asked = " ".join(questions[missing[0]].text.split())
            raise UsageError(
                f"replay=only: {len(missing)} of {len(questions)} answers of {self.chat.name} are not in"
                f" {str(self.store.root)!r}, the first of them to {asked[:120]!r} ...; replay=null asks them"
            )

    def _key(self, question: Question) -> Key:
        return {
            "chat": self.chat.fingerprint,
            "text": question.text,
            "images": [pixels_digest(image) for image in question.images],
            "temperature": question.temperature,
            "seed": question.seed,
        }
