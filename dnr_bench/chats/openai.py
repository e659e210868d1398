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
from contextlib import contextmanager, suppress
from contextvars import ContextVar
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

from dnr_bench.chats.budget import Budget, Reservation, Tokens
from dnr_bench.data.chat import REFUSALS, Answer, Question
from dnr_bench.data.images import Image
from dnr_bench.infra.digests import digest
from dnr_bench.infra.errors import DnrError, RunError, UsageError
from dnr_bench.infra.ranges import check_range

_log = logging.getLogger(__name__)

_OPENAI = "https://api.openai.com/v1"
#: Seconds that a server may ask us to wait before it is asked again.
_LONGEST_WAIT = 120.0


#: Failures of a request that never left, by the names that the HTTP library gives them.
_NOT_SENT = ("ConnectError", "ConnectTimeout", "PoolTimeout")
#: No question and no answer has more tokens; a server that says so has not counted them.
_MOST_TOKENS = 10_000_000


#: The reservation of the question that a task asks.
_asked_for: ContextVar[Reservation] = ContextVar("asked_for")


class _StoppedError(Exception):
    """Nothing more is to be sent."""


class _UnreadableError(Exception):
    """A response without an answer in it: cut off, or no JSON; `usage`: the tokens that were counted."""

    def __init__(self, message: str, usage: Tokens | None = None) -> None:
        super().__init__(message)
        self.usage = usage


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
        check_range(1, 1_000_000, max_tokens=max_tokens, image_tokens=image_tokens)
        check_range(1, 1000, concurrency=concurrency, attempts=attempts)
        check_range(1, 65536, image_size=image_size)
        check_range(0.001, 86_400, timeout=timeout)
        check_range(0, 3600, backoff=backoff)
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
        client = AsyncOpenAI(
            api_key=self._key() or "none",
            base_url=self.base_url or _OPENAI,  # not what the environment says, which results would not show
            timeout=self.timeout,
            max_retries=0,  # retries are ours, so that each is seen and counted
            # questions go to nobody but the server that was named
            http_client=openai.DefaultAsyncHttpxClient(
                follow_redirects=False, event_hooks={"request": [_watch]}
            ),
        )
        exchange = _Exchange(self, client)
        try:
            yield from exchange.answers(loop, questions)
        finally:
            loop.run_until_complete(client.close())
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
        if exchange.failures:
            stops = [failure for failure in exchange.failures if isinstance(failure, KeyboardInterrupt)]
            raise stops[0] if stops else self._explained(exchange.failures[0])

    async def request(self, client: AsyncOpenAI, question: Question) -> Any:
        """One request; raises what the library does, or `_UnreadableError` for one without an answer."""
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
        choices = getattr(response, "choices", None)
        if not isinstance(choices, list) or not choices or not hasattr(choices[0], "message"):
            raise _UnreadableError("the response holds no answer", _tokens(response))
        if not hasattr(choices[0].message, "content"):
            raise _UnreadableError("the response holds no message", _tokens(response))
        return response

    def note_retry(self, state: RetryCallState) -> None:
        """Log why a question is sent again."""
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


class _Exchange:
    """The questions of one call of `ask` on their way, within the budget; a failure stops the others."""

    def __init__(self, chat: OpenAIChat, client: AsyncOpenAI) -> None:
        self.chat, self.client, self.budget = chat, client, chat.budget
        self.budget.reserved = 0.0
        self.failures: list[BaseException] = []
        self.free, self.room = asyncio.Semaphore(chat.concurrency), asyncio.Condition()
        self.stopping = asyncio.Event()

    def answers(
        self, loop: asyncio.AbstractEventLoop, questions: Sequence[Question]
    ) -> Iterator[tuple[int, Answer]]:
        """The number of each question that was answered, with the answer, as they come."""
        waiting = {loop.create_task(self._one(i, question)) for i, question in enumerate(questions)}

        def interrupted() -> None:  # what is on its way is paid for and waited for, unless they insist
            if any(isinstance(failure, KeyboardInterrupt) for failure in self.failures):
                for task in waiting:
                    task.cancel()
            self._stop(KeyboardInterrupt())

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

    def _stop(self, failure: BaseException) -> None:
        self.failures.append(failure)
        self.stopping.set()

    async def _one(self, place: int, question: Question) -> tuple[int, Answer] | None:
        async with self.free:
            try:
                reservation = await self.budget.reserve(question, self.room, self.failures)
                try:
                    return None if self.failures else (place, await self._answer(question, reservation))
                finally:
                    self.budget.release(reservation)
                    async with self.room:
                        self.room.notify_all()
            except Exception as error:
                self._stop(error)
                return None

    async def _answer(self, question: Question, reservation: Reservation) -> Answer:
        started = time.time()
        retrying = AsyncRetrying(
            stop=stop_after_attempt(self.chat.attempts),
            sleep=self._pause,
            retry=retry_if_exception(_is_passing),
            wait=partial(_pause, backoff=self.chat.backoff),
            before_sleep=self.chat.note_retry,
            reraise=True,
        )
        try:
            response: Any = await retrying(self._attempt, question, reservation)
        except openai.BadRequestError as error:
            if error.code not in REFUSALS:
                raise
            dollars = self.budget.charge(reservation, (0, 0))
            return Answer("", str(error.code), 0, 0, dollars, started, time.time() - started)
        choice, usage = response.choices[0], _tokens(response)
        return Answer(
            text=_text(choice.message.content),
            stopped=str(choice.finish_reason or ""),
            prompt_tokens=usage[0] if usage else None,
            completion_tokens=usage[1] if usage else None,
            dollars=self.budget.charge(reservation, usage),
            started=started,
            seconds=time.time() - started,
        )

    async def _pause(self, seconds: float) -> None:
        """Wait before asking again, but not when nothing more is to be asked."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), seconds)

    async def _attempt(self, question: Question, reservation: Reservation) -> Any:
        """One request; a failed one that may have reached the service counts as paid."""
        if self.stopping.is_set():
            raise _StoppedError
        self.budget.check_another(reservation)
        reservation.sent = False
        _asked_for.set(reservation)
        try:
            return await self.chat.request(self.client, question)
        except _UnreadableError as error:
            self.budget.charge(reservation, error.usage)
            raise
        except (TimeoutError, openai.APIConnectionError) as error:
            if reservation.sent and type(error.__cause__).__name__ not in _NOT_SENT:
                self.budget.charge(reservation, None)
            raise


@contextmanager
def _interrupts(loop: asyncio.AbstractEventLoop, interrupted: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C becomes a call within the loop: it breaks off neither an answer nor the writing of one."""
    before = {}
    if threading.current_thread() is threading.main_thread() and os.name == "posix":
        for number in (signal.SIGINT, signal.SIGTERM):
            if callable(handler := signal.getsignal(number)):
                before[number] = handler
                loop.add_signal_handler(number, interrupted)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


async def _watch(request: Any) -> None:
    """Have the HTTP library tell when a request has a connection and goes out."""

    async def told(event: str, _: object) -> None:
        if event.endswith("send_request_headers.started"):
            _asked_for.get().sent = True

    request.extensions["trace"] = told


def _tokens(response: object) -> Tokens | None:
    """The tokens of question and answer; None where the server did not count them, or hardly can have."""
    usage = getattr(response, "usage", None)
    found = (getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None))
    if any(type(count) is not int or not 0 <= count <= _MOST_TOKENS for count in found) or not found[0]:
        return None
    return found  # type: ignore[return-value]


def _text(content: object) -> str:
    """The text of an answer, whatever form a server gives it."""
    if isinstance(content, list):
        return "".join(_text(part.get("text") if isinstance(part, Mapping) else part) for part in content)
    return "" if content is None else str(content)


def _pause(state: RetryCallState, backoff: float) -> float:
    """As long as the server asks for, else about twice as long as the last time."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.response.headers.get("retry-after") if isinstance(error, openai.APIStatusError) else None
    if asked is not None and re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", asked):
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
    if isinstance(error, openai.APIStatusError) and 300 <= error.status_code < 400:
        place = " ".join(error.response.headers.get("location", "nowhere").split())
        return f"it redirects to {place}, which is not asked: if you trust that server, name it in base_url"
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
    try:
        parts = urlsplit(base_url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # no port, or brackets that do not close
        known = False
    if not known:
        raise UsageError("base_url must be an address like http://127.0.0.1:8000/v1")
    if parts.username or parts.password or parts.query:
        raise UsageError(
            "base_url holds a name, a password or a query, which would be written into results: secrets"
            " belong into the environment variable that key_env names"
        )
