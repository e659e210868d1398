"""Questions to chat models, their answers, and the cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dnr_bench.data.images import Image


@dataclass(frozen=True)
class Question:
    """A question: a text and the images it is about; `seed` tells repeated samples apart."""

    text: str
    images: tuple[Image, ...] = ()
    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Answer:
    """An answer and its cost; `dollars` is None where prices are unknown.

    `started`: seconds since 1970. `stopped`: why the answer ends (stop, length, content_filter ...).
    """

    text: str
    stopped: str
    prompt_tokens: int
    completion_tokens: int
    dollars: float | None
    started: float
    seconds: float


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
    """The questions of one part to a chat model, of which `stored` were answered before this run."""

    model: str
    stored: int = 0
    calls: list[Call] = field(default_factory=list)

    @property
    def totals(self) -> dict[str, float | None]:
        """Sums over the calls of this run."""
        dollars = [call.answer.dollars for call in self.calls]
        known = [value for value in dollars if value is not None]
        return {
            "asked": float(len(self.calls)),
            "stored": float(self.stored),
            "prompt_tokens": float(sum(call.answer.prompt_tokens for call in self.calls)),
            "completion_tokens": float(sum(call.answer.completion_tokens for call in self.calls)),
            "dollars": sum(known) if len(known) == len(dollars) else None,
        }
