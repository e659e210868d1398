"""From what a chat model writes to labels: cleaned, checked, and asked for again where there is none."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from dnr_bench.chats.answers import AnswerBook
from dnr_bench.chats.prompts import is_parroted
from dnr_bench.data.chat import Question
from dnr_bench.data.images import Image
from dnr_bench.infra.ranges import check_range

_QUOTES = "\"'`“”‘’«»"
_LEAD = re.compile(
    r"^(?:[-*•]+|\(?\d{1,2}[.):])\s+"
    r"|^(?:the\s+)?(?:best\s+)?(?:short\s+)?(?:label|caption|answer)\s*(?:is)?\s*:\s*",
    re.IGNORECASE,
)
_THOUGHTS = re.compile(r"<think>.*?(?:</think>|$)", re.DOTALL)
_REFUSAL = re.compile(r"^(?:i'?m sorry|sorry,|i (?:cannot|can't|am unable)|as an ai\b)", re.IGNORECASE)


def first_line(text: str) -> str:
    """The first line with words, without numbering, lead-in ("Label:"), quotes, emphasis and final period.

    What a model thinks before it answers is no part of the answer, nor is a line that only announces it
    ("Here is the label:").
    """
    lines = [line for line in _THOUGHTS.sub("", text).splitlines() if re.search(r"\w", line)]
    for line in lines:
        found = _bare(line)
        if found and not found.endswith(":"):
            return found
    return ""


def label_of(text: str, max_words: int, stopped: str = "stop") -> str | None:
    """The label in an answer, in lower case; None where there is none, or it has more words than allowed.

    `stopped`: why the answer ends; of one that was cut off, the last line is no label.
    """
    label = first_line(text).lower()
    if stopped == "length" and len([line for line in text.splitlines() if line.strip()]) < 2:
        return None
    if _REFUSAL.match(label.replace("’", "'")):
        return None
    return label if 0 < len(label.split()) <= max_words else None


def _bare(line: str) -> str:
    line, before = line.replace("**", "").replace("__", ""), None
    while line != before:
        before = line
        line = _LEAD.sub("", line.strip().strip(_QUOTES + "*_").strip())
        line = line.removesuffix(".")
    return " ".join(line.split())


@dataclass(frozen=True)
class LabelSampling:
    """How labels are sampled: at which temperature, and when and how often a sample is asked for again.

    A label of more than `max_words` words, or none, is asked for again, at most `attempts` times in all.
    """

    temperature: float
    max_words: int
    attempts: int

    def __post_init__(self) -> None:
        check_range(0, 2, temperature=self.temperature)
        check_range(1, 1000, max_words=self.max_words, attempts=self.attempts)

    def labels(
        self,
        book: AnswerBook,
        items: Sequence[Sequence[str]],
        show: Callable[[int, Sequence[int]], tuple[str, tuple[Image, ...]]],
        n: int,
        seed: int,
        examples: Collection[str] = (),
    ) -> list[list[str]]:
        """For each item the distinct labels among `n` samples, in the order of the samples.

        An item is named by what it consists of. `show(item, order)` gives the text and the images that ask
        about it, its parts in another order each time. A label of `examples`, the worked ones of a prompt, is
        none where nothing of the item has to do with it: small models repeat them.
        """

        def question(item: int, sample: int, attempt: int) -> Question:
            own = _sample_seed(seed, items[item], sample, attempt)
            order = np.random.default_rng(own).permutation(len(items[item])).tolist()
            return Question(*show(item, order), self.temperature, own)

        found: dict[tuple[int, int], str] = {}
        missing = [(item, sample) for item in range(len(items)) for sample in range(n)]
        for attempt in range(self.attempts):
            asked = [question(item, sample, attempt) for item, sample in missing]
            answers = book.answers(asked) if asked else []
            for place, answer in zip(missing, answers, strict=True):
                label = label_of(answer.text, self.max_words, answer.stopped)
                if label is not None and not is_parroted(label, examples, items[place[0]]):
                    found[place] = label
            missing = [place for place in missing if place not in found]
        samples = [[found[i, s] for s in range(n) if (i, s) in found] for i in range(len(items))]
        return [list(dict.fromkeys(of_item)) for of_item in samples]


def _sample_seed(seed: int, about: Sequence[str], sample: int, attempt: int) -> int:
    """The seed of one sample, which depends on what is asked about and on nothing else that is asked."""
    text = "\x00".join([str(seed), str(sample), str(attempt), *about])
    return int.from_bytes(sha256(text.encode()).digest()[:4], "big") >> 1  # services take 31 bits
