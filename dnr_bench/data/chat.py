"""Questions to chat models, their answers, and the cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dnr_bench.data.images import Image

#: What services call it when they will not answer a question.
REFUSALS = ("content_filter", "content_policy_violation")


@dataclass(frozen=True)
class Question:
    """A question: a text and the images it is about; `seed` tells repeated samples apart."""

    text: str
    images: tuple[Image, ...] = ()
    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Answer:
    """An answer and its cost.

    `dollars` is None where prices are unknown, tokens are None where the server did not count them.
    `started`: seconds since 1970. `stopped`: why the answer ends (stop, length, content_filter ...). Halves
    of characters (lone surrogates), which no file can hold, become question marks.
    """

    text: str
    stopped: str
    prompt_tokens: int | None
    completion_tokens: int | None
    dollars: float | None
    started: float
    seconds: float

    def __post_init__(self) -> None:
        for name in ("text", "stopped"):
            whole = getattr(self, name).encode("utf-8", "replace").decode()
            object.__setattr__(self, name, whole)

    @property
    def refused(self) -> bool:
        """Whether the service would not answer."""
        return self.stopped in REFUSALS


@dataclass(frozen=True)
class Call:
    """A question that was asked in this run, its images by the names of their content, and the answer."""

    text: str
    images: Sequence[str]
    temperature: float
    seed: int
    answer: Answer


@dataclass
class Usage:
    """The questions of one part to a chat model.

    stored: how many were answered before this run. refused: how many the service would not answer.
    """

    model: str
    stored: int = 0
    refused: int = 0
    calls: list[Call] = field(default_factory=list)

    @property
    def totals(self) -> dict[str, float | None]:
        """Sums over the calls of this run; None where they are not known of all."""
        answers = [call.answer for call in self.calls]
        return {
            "asked": float(len(self.calls)),
            "stored": float(self.stored),
            "refused": float(self.refused),
            "prompt_tokens": _total([answer.prompt_tokens for answer in answers]),
            "completion_tokens": _total([answer.completion_tokens for answer in answers]),
            "dollars": _total([answer.dollars for answer in answers]),
        }


def _total(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(sum(known)) if len(known) == len(values) else None
