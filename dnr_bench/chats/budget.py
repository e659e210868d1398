"""The cost of questions, and a limit to it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dnr_bench.data.chat import Question
from dnr_bench.infra.errors import RunError, UsageError


class BudgetSpentError(RunError):
    """The next question could cost more than is left of the budget."""


#: Tokens of a question and of its answer.
Tokens = tuple[int, int]


@dataclass
class Reservation:
    """What a question can cost.

    most: the dollars of one response. charged: those of the responses so far. sent: whether the last request
    has gone out.
    """

    most: float
    charged: float = 0.0
    sent: bool = False


class Budget:
    """Dollars that a part of a run may spend on one model.

    Args:
        model: its name.
        prices: [model, dollars per million tokens of questions, the same of answers] of some models.
        limit: dollars; None: there is none.
        max_tokens: the most tokens of an answer.
        image_tokens: the most tokens of an image.

    Raises:
        UsageError: prices are malformed, or a limit is set for a model without prices.
    """

    def __init__(
        self,
        model: str,
        prices: Sequence[Sequence[Any]],
        limit: float | None,
        max_tokens: int,
        image_tokens: int,
    ) -> None:
        known = _checked_prices(prices)
        if limit is not None and (not 0 < limit < math.inf or model not in known):
            raise UsageError(
                f"budget={limit} must be above 0, and needs the prices of {model!r}; known are"
                f" {', '.join(known) or 'none'}"
            )
        self.model, self.prices, self.limit = model, known.get(model), limit
        self.max_tokens, self.image_tokens = max_tokens, image_tokens
        self.spent = self.reserved = 0.0

    def dollars(self, prompt: float, completion: float) -> float | None:
        """The cost of these tokens; None where prices are unknown."""
        if self.prices is None:
            return None
        return (prompt * self.prices[0] + completion * self.prices[1]) / 1e6

    async def reserve(
        self, question: Question, room: asyncio.Condition, failures: Sequence[BaseException]
    ) -> Reservation:
        """Dollars set aside for a question; where others hold too many, it waits for their answers."""
        most = self._most(question)
        if self.limit is not None:
            async with room:
                while not failures and self.spent + self.reserved + most > self.limit:
                    if not self.reserved:
                        raise self._exhausted(most)
                    await room.wait()
        self.reserved += most
        return Reservation(most)

    def release(self, reservation: Reservation) -> None:
        """The question is done, whatever came of it."""
        self.reserved -= reservation.most

    def charge(self, reservation: Reservation, usage: Tokens | None) -> float | None:
        """The dollars of a question so far, once a response to it has come.

        usage: the tokens that the server counted; where it did not, a response costs all that was set aside.
        """
        if self.prices is None:
            return None
        price = reservation.most if usage is None else self.dollars(*usage) or 0.0
        self.spent += price
        reservation.charged += price
        return reservation.charged

    def check_another(self, reservation: Reservation) -> None:
        """Raise `BudgetSpentError` where asking the same question again could exceed the budget."""
        if self.limit is not None and self.spent + self.reserved > self.limit:
            raise self._exhausted(reservation.most)

    def _exhausted(self, most: float) -> BudgetSpentError:
        return BudgetSpentError(
            f"budget={self.limit}: {self.spent:.4f} dollars are spent, and the next question to {self.model}"
            f" may cost {most:.4f}. All answers so far are kept: a larger budget goes on from here"
        )

    def _most(self, question: Question) -> float:
        """No text has more tokens than bytes; every message has some of its own."""
        prompt = len(question.text.encode()) + 50 + self.image_tokens * len(question.images)
        return self.dollars(prompt, self.max_tokens) or 0.0


def _checked_prices(prices: Sequence[Sequence[Any]]) -> dict[str, tuple[float, float]]:
    """Of each model, dollars per million tokens of questions and of answers."""
    found = {}
    for row in prices:
        if len(row) != 3 or not all(_is_price(value) for value in row[1:]):
            raise UsageError(f"prices: {list(row)} must be a model and two numbers: [{row[0]}, 0.15, 0.60]")
        found[str(row[0])] = (float(row[1]), float(row[2]))
    return found


def _is_price(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
