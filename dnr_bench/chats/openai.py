"""Chat models behind the OpenAI API: OpenAI's own, and any server that speaks as it does."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
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

from dnr_bench.chats.budget import Budget
from dnr_bench.data.chat import Answer, Question
from dnr_bench.data.images import Image
from dnr_bench.infra.digests import digest
from dnr_bench.infra.errors import DnrError, RunError, UsageError

_log = logging.getLogger(__name__)

_OPENAI = "https://api.openai.com/v1"
#: What a service says of a question that it will not answer: no label comes of it, and the run goes on.
_REFUSED = ("content_filter", "content_policy_violation")
#: Seconds that a server may ask us to wait before it is asked again.
_LONGEST_WAIT = 120.0


class _UnreadableError(Exception):
    """A response without an answer in it: cut off, or no JSON."""


class OpenAIChat:
    """Questions to `model`, at most `concurrency` at a time.

    base_url: of another server than OpenAI's. key_env: the environment variable that holds the key; where a
    server of yours wants none, it need not be set. timeout: seconds for one answer. attempts: how often a
    question is sent where the server is busy (429), broken (5xx), silent or cut off, with pauses that grow
    from `backoff` seconds or are as long as the server asks for. prices: of models, dollars per million
    tokens of questions and of answers. budget: dollars that this part of a run may spend; a question that
    could exceed it is not sent. image_tokens: the most that an image of `image_size` pixels may cost.
    extra: further fields of every request; None leaves one out.
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
        prices: Sequence[Sequence[Any]],
        budget: float | None,
        image_size: int,
        image_tokens: int,
        extra: Mapping[str, Any] | None,
    ) -> None:
        for name, value in (
            ("max_tokens", max_tokens),
            ("concurrency", concurrency),
            ("attempts", attempts),
            ("image_size", image_size),
            ("image_tokens", image_tokens),
        ):
            if value < 1:
                raise UsageError(f"{name}={value} must be at least 1")
        if timeout <= 0 or backoff < 0:
            raise UsageError(f"timeout={timeout} must be above 0, and backoff={backoff} at least 0")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key_env):
            raise UsageError("key_env must be the name of an environment variable, not a key")
        if base_url:
            _check_address(base_url)
        if own := sorted(set(extra or ()) & {"model", "messages", "stream", "n"}):
            raise UsageError(f"extra={extra}: {own} are not yours to set here")
        self.model, self.base_url, self.key_env = model, base_url or None, key_env
        self.max_tokens, self.concurrency, self.timeout = max_tokens, concurrency, timeout
        self.attempts, self.backoff = attempts, backoff
        self.image_size, self.extra = image_size, dict(extra or {})
        self.budget = Budget(model, prices, budget, max_tokens, image_tokens)
        self.name = model
        # part of the names of answers, which people have paid for: changed code must not ask again
        self.fingerprint = digest(
            {
                "kind": "openai",
                "version": 1,
                "model": model,
                "base_url": self.base_url,
                "max_tokens": max_tokens,
                "image_size": image_size,
                "extra": self.extra,
            },
        )

    def check(self) -> None:
        """The key must be in the environment, where OpenAI itself is asked."""
        if self.base_url is None and not self._key():
            raise UsageError(
                f"the environment variable {self.key_env} is not set: {self.model} wants a key. replay=only"
                " goes without one on stored answers; base_url=http://... asks a server of yours"
            )
        if not self._key().isascii() or not self._key().isprintable():
            raise UsageError(f"the environment variable {self.key_env} holds characters that no key has")

    def _key(self) -> str:
        """Without the line break that files of keys end with."""
        return os.environ.get(self.key_env, "").strip()

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
            api_key=self._key() or "none",
            base_url=self.base_url or _OPENAI,  # not what the environment says, which results would not show
            timeout=self.timeout,
            max_retries=0,  # retries are ours, so that each is seen and counted
        )
        failures: list[BaseException] = []
        self.budget.reserved = 0.0
        free, room = asyncio.Semaphore(self.concurrency), asyncio.Condition()

        async def one(place: int, question: Question) -> tuple[int, Answer] | None:
            async with free:
                try:
                    most = await self.budget.reserve(question, room, failures)
                    if failures:
                        return None
                    try:
                        return place, await self._answer(client, question)
                    finally:
                        self.budget.reserved -= most
                        async with room:
                            room.notify_all()
                except Exception as error:
                    failures.append(error)
                    return None

        waiting = {loop.create_task(one(i, question)) for i, question in enumerate(questions)}

        def interrupted() -> None:  # what is on its way is paid for and waited for, unless they insist
            if any(isinstance(failure, KeyboardInterrupt) for failure in failures):
                for task in waiting:
                    task.cancel()
            failures.append(KeyboardInterrupt())

        try:
            with _interrupts(loop, interrupted):
                while waiting:
                    done, waiting = loop.run_until_complete(
                        asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                    )
                    answered = [task.result() for task in done if not task.cancelled()]
                    yield from (found for found in answered if found is not None)
        finally:
            for task in waiting:
                task.cancel()
            if waiting:
                loop.run_until_complete(asyncio.wait(waiting))
            loop.run_until_complete(client.close())
        if failures:
            stops = [failure for failure in failures if isinstance(failure, KeyboardInterrupt)]
            raise stops[0] if stops else self._explained(failures[0])

    async def _answer(self, client: AsyncOpenAI, question: Question) -> Answer:
        started = time.time()
        retrying = AsyncRetrying(
            stop=stop_after_attempt(self.attempts),
            retry=retry_if_exception(_is_passing),
            wait=partial(_pause, backoff=self.backoff),
            before_sleep=self._note_retry,
            reraise=True,
        )
        try:
            response: Any = await retrying(self._request, client, question)
        except openai.BadRequestError as error:
            if error.code not in _REFUSED:
                raise
            return Answer(
                "", str(error.code), 0, 0, self.budget.dollars(0, 0), started, time.time() - started
            )
        answer = _read(response, started, self.budget)
        self.budget.spent += answer.dollars or 0.0
        return answer

    async def _request(self, client: AsyncOpenAI, question: Question) -> Any:
        sampling: dict[str, Any] = {"temperature": question.temperature, "seed": question.seed}
        # OpenAI's newer models know only the new name, many servers only the old one
        sampling["max_completion_tokens" if self.base_url is None else "max_tokens"] = self.max_tokens
        kept = {key: value for key, value in sampling.items() if key not in self.extra}
        more = {key: value for key, value in self.extra.items() if value is not None}
        content: Any = question.text
        if question.images:
            parts = [_image_part(image, self.image_size) for image in question.images]
            content = [{"type": "text", "text": question.text}, *parts]
        try:
            async with asyncio.timeout(self.timeout):  # the client's own begins anew with every byte
                response = await client.chat.completions.create(
                    model=self.model, messages=[{"role": "user", "content": content}], extra_body=more, **kept
                )
        except ValueError as error:  # no JSON
            raise _UnreadableError(f"the response is no JSON: {error}") from error
        if not getattr(response, "choices", None) or response.choices[0].message is None:
            raise _UnreadableError("the response holds no answer")
        return response

    def _note_retry(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        _log.info("%s: %s; asking again", self.model, self._reason(error))

    def _explained(self, error: BaseException) -> DnrError:
        if isinstance(error, DnrError):
            return error
        where = self.base_url or "OpenAI"
        reason = self._reason(error)
        return RunError(f"{self.model} at {where} did not answer: {reason}. All answers so far are kept.")

    def _reason(self, error: BaseException | None) -> str:
        """A short reason, without the key, which servers like to repeat."""
        reason, key = _reason(error), self._key()
        return (reason.replace(key, "***") if key else reason)[:300]


@contextmanager
def _interrupts(loop: asyncio.AbstractEventLoop, interrupted: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C becomes a call within the loop: it breaks off neither an answer nor the writing of one."""
    before = {}
    if threading.current_thread() is threading.main_thread() and os.name == "posix":
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is signal.default_int_handler:
                before[number] = signal.getsignal(number)
                loop.add_signal_handler(number, interrupted)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


def _read(response: Any, started: float, budget: Budget) -> Answer:
    """The answer in a response, with what it took."""
    choice, usage = response.choices[0], response.usage
    prompt = getattr(usage, "prompt_tokens", None) or 0
    completion = getattr(usage, "completion_tokens", None) or 0
    return Answer(
        text=choice.message.content or "",
        stopped=choice.finish_reason or "",
        prompt_tokens=prompt,
        completion_tokens=completion,
        dollars=budget.dollars(prompt, completion),
        started=started,
        seconds=time.time() - started,
    )


def _pause(state: RetryCallState, backoff: float) -> float:
    """As long as the server asks for, else about twice as long as the last time."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.response.headers.get("retry-after") if isinstance(error, openai.APIStatusError) else None
    if asked is not None and asked.replace(".", "", 1).isdigit():
        return min(float(asked), _LONGEST_WAIT)
    return wait_random_exponential(multiplier=backoff, max=_LONGEST_WAIT)(state)


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
        return f"HTTP {error.status_code}: {said}"
    cause = error.__cause__ if isinstance(error, openai.APIConnectionError) and error.__cause__ else error
    return " ".join(str(cause).split()) or type(cause).__name__


def _image_part(image: Image, size: int) -> dict[str, Any]:
    """An image within a message, with sides of at most `size` pixels."""
    picture = PILImage.fromarray(image)
    picture.thumbnail((size, size))
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    address = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return {"type": "image_url", "image_url": {"url": address}}


def _check_address(base_url: str) -> None:
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError("base_url must be an address like http://127.0.0.1:8000/v1")
    if parts.username or parts.password or parts.query:
        raise UsageError(
            "base_url holds a name, a password or a query, which would be written into results: secrets"
            " belong into the environment variable that key_env names"
        )
