"""A real HTTP server on loopback that speaks the OpenAI API: it reads prompts, and can break in many ways."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: What the test's client must send, and no file may hold.
KEY = "sk-test-5f2c9d-do-not-write-me-down"


def _answer_with(**fields: object) -> Callable[[dict[str, Any]], None]:
    """Changes the first choice of a reply; "content" is its message's."""

    def change(reply: dict[str, Any]) -> None:
        choice = reply["choices"][0]
        for name, value in fields.items():
            (choice["message"] if name == "content" else choice)[name] = value

    return change


def _text_parts(reply: dict[str, Any]) -> None:
    message = reply["choices"][0]["message"]
    message["content"] = [{"type": "text", "text": message["content"]}]


def _half_character(reply: dict[str, Any]) -> None:
    reply["choices"][0]["message"]["content"] += " \ud83d"


def _usage(prompt: object, completion: object) -> Callable[[dict[str, Any]], None]:
    return lambda reply: reply.update(usage={"prompt_tokens": prompt, "completion_tokens": completion})


#: Replies that hold an answer, in forms that no document describes; and how each changes a sound one.
ODD: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no usage": lambda reply: reply.pop("usage"),
    "usage is null": lambda reply: reply.update(usage=None),
    "usage is text": lambda reply: reply.update(usage="many tokens"),
    "usage is a list": lambda reply: reply.update(usage=[1, 2]),
    "negative usage": _usage(-100000, -100000),
    "usage of nothing": _usage(0, 0),
    "usage NaN": _usage(float("nan"), float("nan")),
    "usage infinite": _usage(float("inf"), 5),
    "usage in words": _usage("100", "5"),
    "usage true": _usage(True, True),
    "usage beyond all": _usage(10**18, 10**18),
    "numeric finish_reason": _answer_with(finish_reason=7),
    "no finish_reason": lambda reply: reply["choices"][0].pop("finish_reason"),
    "content is a list": _text_parts,
    "half a character": _half_character,
    "more fields": lambda reply: reply.update(extra={"deep": [{"a": 1}]}),
    "wrong object": lambda reply: reply.update(object=3, created="now", id=None),
    "no choices": lambda reply: reply.update(choices=[]),
    "choices are null": lambda reply: reply.update(choices=None),
    "choices are text": lambda reply: reply.update(choices="none"),
    "a choice is null": lambda reply: reply.update(choices=[None]),
    "no message": lambda reply: reply["choices"][0].pop("message"),
    "message is null": _answer_with(message=None),
    "message is text": _answer_with(message="red"),
}
#: Those among them that hold no answer, so that the question is asked again.
WITHOUT_ANSWER = (
    "no choices", "choices are null", "choices are text", "a choice is null", "no message", "message is null",
    "message is text",
)  # fmt: skip


@dataclass
class Server:
    """What the server saw; `fault(n)` names what goes wrong with the n-th request, None for nothing."""

    url: str = ""
    fault: Callable[[int], str | None] = lambda n: None
    requests: list[dict[str, Any]] = field(default_factory=list)
    #: How often each question was answered whole, with an answer that counts.
    paid: Counter[str] = field(default_factory=Counter)
    keys: set[str] = field(default_factory=set)
    headers: list[dict[str, str]] = field(default_factory=list)
    #: Seconds that an answer takes.
    delay: float = 0.01
    at_once: int = 0
    most_at_once: int = 0
    #: Where the fault "elsewhere" sends its clients.
    elsewhere: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def chat_server(fault: Callable[[int], str | None] = lambda n: None) -> Iterator[Server]:
    """Serves until the block ends."""
    state = Server(fault=fault)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with state.lock:
                number, fault = len(state.requests), state.fault  # as it was when the request came
                state.requests.append(body)
                state.keys.add(self.headers["authorization"].removeprefix("Bearer "))
                state.headers.append(dict(self.headers))
                state.at_once += 1
                state.most_at_once = max(state.most_at_once, state.at_once)
            try:
                time.sleep(state.delay)
                self.respond(fault(number), body)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the client has gone
            finally:
                with state.lock:
                    state.at_once -= 1

        def respond(self, fault: str | None, body: dict[str, Any]) -> None:
            question = json.dumps([body["messages"], body.get("seed")])
            text = answer(body)
            if fault == "429":
                return self.send(429, {"error": {"message": "slow down"}}, {"Retry-After": "0"})
            if fault in ("500", "401", "400"):
                said = self.headers["authorization"]  # as careless servers do, and at any place
                message = f"cannot serve {said} {'x' * 253} {said}"
                return self.send(int(fault), {"error": {"message": message}})
            if fault == "filtered":
                return self.send(400, {"error": {"message": "no", "code": "content_filter"}})
            if fault == "timeout":
                time.sleep(1.5)
            if fault == "hang":
                time.sleep(60)
            if fault == "empty":
                text = ""
            if fault == "long":
                text = "a very long answer that says everything about every picture there is " * 40
            if fault == "elsewhere":
                return self.send(307, {}, {"Location": state.elsewhere})
            if fault == "wait":
                return self.send(429, {"error": {"message": "slow down"}}, {"Retry-After": "²"})
            reply_with = {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": body["model"],
                "choices": [
                    {
                        "index": 0,
                        "finish_reason": "stop",
                        "message": {"role": "assistant", "content": text},
                    }
                ],
                "usage": {"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105},
            }
            if fault in ODD:
                ODD[fault](reply_with)
            reply = json.dumps(reply_with).encode()
            if fault == "truncated":
                reply = reply[: len(reply) // 2]
            if fault not in ("timeout", "hang", "truncated", *WITHOUT_ANSWER):
                with state.lock:
                    state.paid[question] += 1
            self.send(200, reply)
            return None

        def send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
            payload = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(payload)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


def answer(body: dict[str, Any]) -> str:
    """What a sensible reader of the prompt would say: the words that most of its captions share."""
    content = body["messages"][0]["content"]
    if isinstance(content, list):
        n = sum(part["type"] == "image_url" for part in content)
        return f'"{n} Pictures."' if n > 1 else "A picture of something."
    if choice := re.search(r'fits "(.+?)" best: (.+?)\?', content):
        fitting = [name for name in choice[2].split(", ") if name in choice[1]]
        return f"{(fitting or ['none of them'])[0].capitalize()}."
    if kinds := re.search(r"in parentheses .*, one of: (.+?)\. ", content):
        said = re.findall(r"^- (.+)$", content, re.MULTILINE)
        fitting = [name for name in kinds[1].split(", ") if any(name in text for text in said)]
        return f"{said[0].upper()} ({(fitting or ['somewhere else'])[0]})."
    if tried := re.findall(r"^Already tried: (.+)$", content, re.MULTILINE):
        return f"{tried[-1].split()[0].strip(',')} things"
    listed = content.rpartition("Captions:")[2]
    captions = re.findall(r"^- (.+)$", listed, re.MULTILINE)
    if not captions:  # a single caption to shorten: without its articles
        last = content.rpartition("Caption:")[2].partition("Short caption:")[0]
        return re.sub(r"\b(a|an|the)\b", " ", last).strip() or "something"
    counts = Counter(word for caption in captions for word in set(caption.lower().split()))
    shared = [
        word for word, n in counts.items() if n >= 0.7 * len(captions) and word not in ("a", "on", "of")
    ]
    order = sorted(shared, key=lambda word: (captions[0].find(word), word))
    return f"1. Label: {' '.join(order[:3]) or counts.most_common(1)[0][0]}."
