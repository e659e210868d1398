"""Which answers count: attention checks, time, straight lines, contradictions. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dnr_bench.infra.ranges import check_range
from dnr_bench.results.ratings.answers import Answer, Answers
from dnr_bench.results.ratings.study import Item, Study

#: With fewer answers nobody is taken for a rater who does not look.
_FEWEST = 8


@dataclass(frozen=True)
class Rules:
    """What answers must fulfill.

    missed_checks: a rater who misses at least this share of attention checks is left out. seconds: so is one
    whose median item took less; and every item that took less than half of it. straight: so is one who gives
    the same answer to more than this share of at least eight questions. consistent: an item is left out where
    the best label is not among those rated highest (DnD A.1.6).

    Raises:
        UsageError: a number makes no sense.
    """

    missed_checks: float = 0.5
    seconds: float = 2.0
    straight: float = 0.95
    consistent: bool = True

    def __post_init__(self) -> None:
        check_range(0.01, 1.01, missed_checks=self.missed_checks)
        check_range(0, 3600, seconds=self.seconds)
        check_range(0.2, 1, straight=self.straight)


@dataclass(frozen=True)
class Dropped:
    """What of a rater's answers does not count: so many items, and why."""

    rater: str
    items: int
    reason: str


def filtered(given: Sequence[Answers], study: Study, rules: Rules) -> tuple[list[Answers], list[Dropped]]:
    """The answers that count, without attention checks, and what was left out."""
    kept, dropped = [], []
    for answers in given:
        asked = [a for a in answers.answers if not study.by_item[a.item].is_check]
        if reason := _inattentive(answers, asked, study, rules):
            dropped.append(Dropped(answers.rater, len(asked), reason))
            continue
        good = []
        reasons: dict[str, int] = {}
        for answer in asked:
            why = _contradiction(answer, study.by_item[answer.item], rules)
            if why:
                reasons[why] = reasons.get(why, 0) + 1
            else:
                good.append(answer)
        dropped += [Dropped(answers.rater, n, why) for why, n in reasons.items()]
        if good:
            kept.append(replace(answers, answers=tuple(good)))
    return kept, dropped


def passed(answer: Answer, item: Item) -> bool:
    """Whether the answer to an attention check is the one that it asks for."""
    if item.asks == "pictures":
        return set(answer.chosen) == set(item.expected)
    return [answer.ratings[label.id] for label in item.labels] == list(item.expected)


def _inattentive(answers: Answers, asked: Sequence[Answer], study: Study, rules: Rules) -> str:
    """Why nothing that this rater said counts; "" if it does."""
    checks = [a for a in answers.answers if study.by_item[a.item].is_check]
    missed = sum(not passed(answer, study.by_item[answer.item]) for answer in checks)
    if checks and missed / len(checks) >= rules.missed_checks:
        return f"missed {missed} of {len(checks)} attention checks"
    seconds = [answer.seconds for answer in asked]
    if seconds and float(np.median(seconds)) < rules.seconds:
        return f"took {np.median(seconds):.1f} s for the median item (at least {rules.seconds:g} s)"
    said = [rating for answer in asked for rating in answer.ratings.values()]
    if not said:  # pictures: none of them, all of them, or some
        said = [_how_many(answer, study.by_item[answer.item]) for answer in asked]
        said = said if set(said) <= {0, 1} else []
    if len(said) >= _FEWEST:
        _, counts = np.unique(said, return_counts=True)
        if counts.max() / len(said) > rules.straight:
            return f"gave the same answer to {int(counts.max())} of {len(said)} questions"
    return ""


def _how_many(answer: Answer, item: Item) -> int:
    return 0 if not answer.chosen else 1 if len(answer.chosen) == item.pictures else 2


def _contradiction(answer: Answer, item: Item, rules: Rules) -> str:
    """Why this answer does not count; "" if it does."""
    if answer.seconds < rules.seconds / 2:
        return f"items answered in less than {rules.seconds / 2:g} s"
    if rules.consistent and answer.best and answer.ratings[answer.best] < max(answer.ratings.values()):
        return "the best label is not among those rated highest"
    return ""
