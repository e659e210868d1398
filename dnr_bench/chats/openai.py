"""Chat models behind the OpenAI API: OpenAI's own, and any server that speaks as it does."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import openai
from openai import AsyncOpenAI
from PIL import Image as PILImage
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from dnr_bench.errors import DnrError, RunError, UsageError
from dnr_bench.store import digest
from dnr_bench.types import Answer, Image, Question

_log = logging.getLogger(__name__)

_OPENAI = "https://api.openai.com/v1"
#: What an image may cost in tokens at most, to know before a question is sent what it may cost.
_IMAGE_TOKENS = 2000
#: What a service says of a question that it will not answer: no label comes of it, and the run goes on.
_REFUSED = ("content_filter", "content_policy_violation")
#: Seconds that a server may ask us to wait before it is asked again.
_LONGEST_WAIT = 120.0


class _UnreadableError(Exception):
    """A response without an answer in it: cut off, or no JSON."""


class BudgetSpentError(RunError):
    """The next question could cost more than is left of the budget."""


class OpenAIChat:
    """Questions to `model`, at most `concurrency` at a time.

    base_url: of another server than OpenAI's. key_env: the environment variable that holds the key; where a
    server of yours wants none, it need not be set. timeout: seconds for one answer. attempts: how often a
    question is sent where the server is busy (429), broken (5xx), silent or cut off, with pauses that grow
    from `backoff` seconds or are as long as the server asks for. prices: dollars per million tokens, {prompt:
    0.15, completion: 0.6}. budget: dollars that this part of a run may spend; a question that could exceed it
    is not sent. extra: further fields of every request.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None,
        key_env: str,
        max_tokens: int,
        concurrency: int,
        timeout: float,
        attempts: int,
        backoff: float,
        prices: Mapping[str, float] | None,
        budget: float | None,
        image_size: int,
        extra: Mapping[str, Any],
    ) -> None:
        for name, value in (
            ("max_tokens", max_tokens),
            ("concurrency", concurrency),
            ("attempts", attempts),
            ("image_size", image_size),
        ):
            if value < 1:
                raise UsageError(f"{name}={value} must be at least 1")
        if timeout <= 0 or backoff < 0:
            raise UsageError(f"timeout={timeout} must be above 0, and backoff={backoff} at least 0")
        if prices is not None and set(prices) != {"prompt", "completion"}:
            raise UsageError(f"prices={dict(prices)} must have the keys prompt and completion, or be null")
        if budget is not None and (budget <= 0 or prices is None):
            raise UsageError(f"budget={budget} must be above 0, and needs prices")
        if base_url is not None:
            _check_address(base_url)
        self.model, self.base_url, self.key_env = model, base_url, key_env
        self.max_tokens, self.concurrency, self.timeout = max_tokens, concurrency, timeout
        self.attempts, self.backoff, self.image_size = attempts, backoff, image_size
        self.prices, self.budget, self.extra = prices, budget, dict(extra)
        self.spent, self.reserved = 0.0, 0.0
        self.name = model
        self.fingerprint = digest(
            {
                "openai": 1,
                "model": model,
                "base_url": base_url,
                "max_tokens": max_tokens,
                "image_size": image_size,
                "extra": self.extra,
            }
        )

    def check(self) -> None:
        """The key must be in the environment, where OpenAI itself is asked."""
        if self.base_url is None and not os.environ.get(self.key_env):
            raise UsageError(
                f"the environment variable {self.key_env} is not set: {self.model} wants a key. replay=only"
                " goes without one on stored answers; base_url=http://... asks a server of yours"
            )

    def ask(self, questions: Sequence[Question]) -> Iterator[tuple[int, Answer]]:
        """Answers as they come. After a failure nothing more is sent, what is on its way is waited for."""
        loop = asyncio.new_event_loop()
        try:
            yield from self._asked(loop, questions)
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    def _asked(
        self, loop: asyncio.AbstractEventLoop, questions: Sequence[Question]
    ) -> Iterator[tuple[int, Answer]]:
        client = AsyncOpenAI(
            api_key=os.environ.get(self.key_env) or "none",
            base_url=self.base_url or _OPENAI,  # not what the environment says, which results would not show
            timeout=self.timeout,
            max_retries=0,  # retries are ours, so that each is seen and counted
        )
        failures: list[BaseException] = []
        free = asyncio.Semaphore(self.concurrency)

        async def one(place: int, question: Question) -> tuple[int, Answer] | None:
            async with free:
                if failures:
                    return None
                try:
                    return place, await self._answer(client, question)
                except Exception as error:
                    failures.append(error)
                    return None

        waiting = {loop.create_task(one(i, question)) for i, question in enumerate(questions)}
        try:
            while waiting:
                done, waiting = loop.run_until_complete(
                    asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                )
                yield from (found for task in done if (found := task.result()) is not None)
        finally:
            for task in waiting:
                task.cancel()
            if waiting:
                loop.run_until_complete(asyncio.wait(waiting))
            loop.run_until_complete(client.close())
        if failures:
            raise self._explained(failures[0])

    async def _answer(self, client: AsyncOpenAI, question: Question) -> Answer:
        most = self._most_dollars(question)
        if self.budget is not None and self.spent + self.reserved + most > self.budget:
            raise BudgetSpentError(
                f"budget={self.budget}: {self.spent:.4f} dollars are spent, and the next question to"
                f" {self.model} may cost {most:.4f}. All answers so far are kept: a larger budget goes on"
                " from here"
            )
        self.reserved += most
        started = time.time()
        try:
            retrying = AsyncRetrying(
                stop=stop_after_attempt(self.attempts),
                retry=retry_if_exception(_is_passing),
                wait=self._pause,
                before_sleep=self._note_retry,
                reraise=True,
            )
            response: Any = await retrying(self._request, client, question)
        except openai.BadRequestError as error:
            if error.code not in _REFUSED:
                raise
            return Answer("", str(error.code), 0, 0, self._dollars(0, 0), started, time.time() - started)
        finally:
            self.reserved -= most
        answer = self._read(response, started)
        self.spent += answer.dollars or 0.0
        return answer

    async def _request(self, client: AsyncOpenAI, question: Question) -> Any:
        sampling: dict[str, Any] = {"temperature": question.temperature, "seed": question.seed}
        # OpenAI's newer models know only the new name, many servers only the old one
        sampling["max_completion_tokens" if self.base_url is None else "max_tokens"] = self.max_tokens
        sampling = {**sampling, **self.extra}
        kept = {key: value for key, value in sampling.items() if value is not None}
        content: Any = question.text
        if question.images:
            content = [{"type": "text", "text": question.text}, *map(self._image_part, question.images)]
        try:
            async with asyncio.timeout(self.timeout):  # the client's own begins anew with every byte
                response = await client.chat.completions.create(
                    model=self.model, messages=[{"role": "user", "content": content}], **kept
                )
        except ValueError as error:  # no JSON
            raise _UnreadableError(f"the response is no JSON: {error}") from error
        if not getattr(response, "choices", None) or response.choices[0].message is None:
            raise _UnreadableError("the response holds no answer")
        return response

    def _image_part(self, image: Image) -> dict[str, Any]:
        picture = PILImage.fromarray(image)
        picture.thumbnail((self.image_size, self.image_size))
        buffer = BytesIO()
        picture.save(buffer, "PNG")
        address = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
        return {"type": "image_url", "image_url": {"url": address}}

    def _read(self, response: Any, started: float) -> Answer:
        choice, usage = response.choices[0], response.usage
        prompt = getattr(usage, "prompt_tokens", None) or 0
        completion = getattr(usage, "completion_tokens", None) or 0
        return Answer(
            text=choice.message.content or "",
            stopped=choice.finish_reason or "",
            prompt_tokens=prompt,
            completion_tokens=completion,
            dollars=self._dollars(prompt, completion),
            started=started,
            seconds=time.time() - started,
        )

    def _dollars(self, prompt: float, completion: float) -> float | None:
        if self.prices is None:
            return None
        return (prompt * self.prices["prompt"] + completion * self.prices["completion"]) / 1e6

    def _most_dollars(self, question: Question) -> float:
        """No text has more tokens than bytes; every message has some of its own."""
        prompt = len(question.text.encode()) + 50 + _IMAGE_TOKENS * len(question.images)
        return self._dollars(prompt, self.max_tokens) or 0.0

    def _pause(self, state: RetryCallState) -> float:
        """As long as the server asks for, else about twice as long as the last time."""
        error = state.outcome.exception() if state.outcome else None
        asked = (
            error.response.headers.get("retry-after") if isinstance(error, openai.APIStatusError) else None
        )
        if asked is not None and asked.replace(".", "", 1).isdigit():
            return min(float(asked), _LONGEST_WAIT)
        return wait_random_exponential(multiplier=self.backoff, max=_LONGEST_WAIT)(state)

    def _note_retry(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        _log.info("%s: %s; asking again", self.model, self._without_key(_reason(error)))

    def _explained(self, error: BaseException) -> DnrError:
        if isinstance(error, DnrError):
            return error
        where = self.base_url or "OpenAI"
        reason = self._without_key(_reason(error))
        return RunError(f"{self.model} at {where} did not answer: {reason}. All answers so far are kept.")

    def _without_key(self, text: str) -> str:
        """Servers like to repeat what they were sent."""
        key = os.environ.get(self.key_env)
        return text.replace(key, "***") if key else text


def _is_passing(error: BaseException) -> bool:
    """Whether the same question may well be answered the next time."""
    if isinstance(error, openai.APIStatusError):
        # an exhausted account answers 429, too
        return (
            error.status_code in (408, 409, 429) and error.code != "insufficient_quota"
        ) or error.status_code >= 500
    return isinstance(error, openai.APIConnectionError | TimeoutError | _UnreadableError)


def _reason(error: BaseException | None) -> str:
    if isinstance(error, TimeoutError | openai.APITimeoutError):
        return "there was no answer in time (timeout=...)"
    if isinstance(error, openai.APIStatusError):
        said = " ".join(str(error.message).split()).removeprefix(f"Error code: {error.status_code} - ")
        return f"HTTP {error.status_code}: {said[:300]}"
    cause = error.__cause__ if isinstance(error, openai.APIConnectionError) and error.__cause__ else error
    return " ".join(str(cause).split())[:300] or type(cause).__name__


def _check_address(base_url: str) -> None:
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError("base_url must be an address like http://127.0.0.1:8000/v1")
    if parts.username or parts.password or parts.query:
        raise UsageError(
            "base_url holds a name, a password or a query, which would be written into results: secrets"
            " belong into the environment variable that key_env names"
        )
