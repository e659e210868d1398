"""The superclass of labels: a language model says, or CLIP (DnD 5.1, its prompt in A.1.3)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dnr_bench.chats.answers import AnswerBook
from dnr_bench.chats.prompts import filled, read_prompt
from dnr_bench.chats.sampling import first_line
from dnr_bench.data.chat import Question
from dnr_bench.infra.errors import UsageError
from dnr_bench.session import Session

_IN_PARENTHESES = re.compile(r"^(.*?)\s*\(([^()]*)\)\W*$")


@dataclass(frozen=True)
class Named:
    """A label and its superclass."""

    label: str
    superclass: str


class Superclasses:
    """Sorts labels into `names`.

    With a `book` a language model is asked. A prompt with {label} and {classes} asks for the class of one
    label; one with {descriptions} (and {classes} or not) follows the paper's procedure: of all descriptions
    of a group it asks for a label and, in parentheses, a superclass (there a landscape), in one answer.
    Without a book, and where an answer names none of the classes, the nearest one in CLIP: to what stands in
    parentheses, or to the label.

    Raises:
        UsageError: there is one name only, or the prompt lacks its fields.
    """

    def __init__(self, names: Sequence[str], book: AnswerBook | None, prompt: str) -> None:
        if len(names) == 1:
            raise UsageError(f"superclasses={list(names)} must name at least two, or none")
        self.names, self.book = list(names), book
        in_one = ["descriptions"]
        self.prompt = read_prompt(prompt, "prompt", ["label", "classes"], in_one, [*in_one, "classes"])
        self.in_one_answer = "{descriptions}" in self.prompt

    def of_groups(
        self, labels: Sequence[str], texts: Sequence[Sequence[str]], session: Session
    ) -> list[Named]:
        """The label and superclass of each group, of which these are the label and all descriptions."""
        if not self.names:
            return [Named(label, "") for label in labels]
        answers = self._answers(labels, texts) if self.book is not None else [""] * len(labels)
        found = [self._read(answer, label) for answer, label in zip(answers, labels, strict=True)]
        near = self._nearest([read.superclass or read.label for read in found], session)
        return [
            Named(read.label, self._first_in(read.superclass or answer) or nearest)
            for read, answer, nearest in zip(found, answers, near, strict=True)
        ]

    def of_labels(self, labels: Sequence[str], session: Session) -> list[str]:
        """The superclass of each label."""
        return [named.superclass for named in self.of_groups(labels, [[text] for text in labels], session)]

    def _answers(self, labels: Sequence[str], texts: Sequence[Sequence[str]]) -> list[str]:
        assert self.book is not None
        classes = ", ".join(self.names)
        values = (
            {"classes": classes, "descriptions": "\n".join(f"- {text}" for text in dict.fromkeys(of_group))}
            if self.in_one_answer
            else {"classes": classes, "label": label}
            for label, of_group in zip(labels, texts, strict=True)
        )
        asked = [Question(filled(self.prompt, **of_group)) for of_group in values]
        return [answer.text for answer in self.book.answers(asked)]

    def _read(self, answer: str, label: str) -> Named:
        """Label and superclass of an answer that has both; else the label that is there already."""
        match = _IN_PARENTHESES.match(first_line(answer)) if self.in_one_answer else None
        return Named(match[1].strip() or label, match[2].strip()) if match else Named(label, "")

    def _first_in(self, answer: str) -> str | None:
        """The superclass that an answer names first."""
        places = {name: answer.lower().find(name.lower()) for name in self.names}
        named = [name for name, place in places.items() if place >= 0]
        return min(named, key=lambda name: (places[name], -len(name))) if named else None

    def _nearest(self, texts: Sequence[str], session: Session) -> list[str]:
        cosines = session.embed_texts(texts) @ session.embed_texts(self.names).T
        return [self.names[index] for index in cosines.argmax(axis=1)]
