"""Collects the answers of a rating study on this machine, for a team.

    dnr-bench rate serve study

Whoever opens the address gets a page that nobody has, and the same one again in the same browser. Answers go
into answers.db in the study's folder; dnr-bench rate analyze reads it. With --host 0.0.0.0 others on your
network can take part; nothing is encrypted, so put a proxy with TLS before it for anything else.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from dnr_bench.app.command_line import CommandParser
from dnr_bench.infra.errors import RunError, UsageError
from dnr_bench.infra.ranges import check_range
from dnr_bench.outputs.pages.montage import Montage
from dnr_bench.outputs.pages.rater import rater_page
from dnr_bench.outputs.terminal.console import console, escaped
from dnr_bench.results.ratings.answers import DATABASE, read_page
from dnr_bench.results.ratings.study import Study

#: Seconds after which a page that was handed out and is not answered goes to somebody else.
_IN_USE = 6 * 3600
#: Rendered pages that are kept.
_KEPT = 32
#: Bytes of the answers of one page; a page of a thousand items has fewer.
_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class AnswerBook:
    """The answers of a study in a database, one set per page, and which pages were handed out."""

    path: Path
    study: Study

    def __post_init__(self) -> None:
        with self._open() as database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS answers (page TEXT PRIMARY KEY, received REAL, content TEXT)"
            )
            database.execute("CREATE TABLE IF NOT EXISTS handed_out (page TEXT PRIMARY KEY, at REAL)")

    def hand_out(self) -> str | None:
        """A page that nobody has, or was handed out long ago and is not answered; None if none is left."""
        with self._open() as database:
            database.execute("BEGIN IMMEDIATE")
            answered = {page for (page,) in database.execute("SELECT page FROM answers")}
            handed = dict(database.execute("SELECT page, at FROM handed_out").fetchall())
            before = time.time() - _IN_USE
            left = [p.id for p in self.study.pages if p.id not in answered and handed.get(p.id, 0.0) < before]
            if not left:
                return None
            page = min(left, key=lambda one: handed.get(one, 0.0))
            database.execute("REPLACE INTO handed_out VALUES (?, ?)", (page, time.time()))
            return page

    def add(self, content: str) -> str:
        """Keep the answers of a page; returns its id.

        Raises:
            UsageError: they are no answers to this study, or the page was answered otherwise before.
        """
        page = read_page(content, self.study, "the answers").page
        with self._open() as database:
            database.execute("BEGIN IMMEDIATE")
            known = database.execute("SELECT content FROM answers WHERE page = ?", (page,)).fetchone()
            if known and known[0] != content:
                raise UsageError(f"page {page} was answered already")
            if not known:
                database.execute("INSERT INTO answers VALUES (?, ?, ?)", (page, time.time(), content))
        return page

    def progress(self) -> dict[str, int]:
        """How many pages there are, were handed out, and are answered."""
        with self._open() as database:
            counts = [
                database.execute(f"SELECT COUNT(*) FROM {t}").fetchone()[0] for t in ("handed_out", "answers")
            ]
        return {"pages": len(self.study.pages), "handed_out": counts[0], "answered": counts[1]}

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection whose changes are kept together, or not at all."""
        try:
            with closing(sqlite3.connect(self.path, timeout=20, isolation_level=None)) as database:
                try:
                    yield database
                except BaseException:
                    if database.in_transaction:
                        database.execute("ROLLBACK")
                    raise
                if database.in_transaction:
                    database.execute("COMMIT")
        except sqlite3.Error as error:
            raise RunError(f"{self.path} cannot be used: {error}") from error


def application(folder: Path) -> Starlette:
    """The server of a study in a folder: /, /page/ID, /answers, /progress."""
    study = Study.read(folder)
    book = AnswerBook(folder / DATABASE, study)
    cookie = f"dnr_rater_{study.id}"  # cookies are shared by all ports of a host
    names = {item.montage for item in study.items}
    montages = {name: _montage(folder, name, study) for name in names}

    @lru_cache(_KEPT)
    def shown(page: str) -> str:
        return rater_page(study, study.by_page[page], montages, "/answers")

    def start(request: Request) -> Response:
        page = request.cookies.get(cookie, "")
        if page not in study.by_page:
            found = book.hand_out()
            if found is None:
                return PlainTextResponse("All pages of this study are taken. Thank you for coming.")
            page = found
        query = f"?{request.url.query}" if request.url.query else ""  # the name that a platform gives
        reply = RedirectResponse(f"/page/{page}{query}", status_code=303)
        reply.set_cookie(cookie, page, max_age=30 * 86400, httponly=True, samesite="lax")
        return reply

    def show(request: Request) -> Response:
        page = request.path_params["page"]
        if page not in study.by_page:
            return PlainTextResponse("There is no such page.", status_code=404)
        return HTMLResponse(shown(page), headers={"Cache-Control": "no-store"})

    async def receive(request: Request) -> Response:
        content = bytearray()
        async for chunk in request.stream():
            content += chunk
            if len(content) > _MOST_BYTES:
                return PlainTextResponse("These answers are too long.", status_code=413)
        try:
            await run_in_threadpool(book.add, content.decode("utf-8"))
        except (UsageError, UnicodeDecodeError) as error:
            return PlainTextResponse(str(error), status_code=400)
        return PlainTextResponse("Your answers have arrived.")

    def progress(request: Request) -> Response:
        return JSONResponse(book.progress())

    return Starlette(
        routes=[
            Route("/", start),
            Route("/page/{page}", show),
            Route("/answers", receive, methods=["POST"]),
            Route("/progress", progress),
        ]
    )


def main(words: Sequence[str]) -> int:
    """Serve until Ctrl-C."""
    parser = CommandParser("rate serve", __doc__)
    parser.add_argument("study", type=Path, help="the folder that `dnr-bench rate build` wrote")
    parser.add_argument("--host", default="127.0.0.1", help="who may connect (default: this machine only)")
    parser.add_argument("--port", type=int, default=8765, help="default: 8765")
    given = parser.parse_intermixed_args(words)
    check_range(0, 65_535, port=given.port)
    import uvicorn

    app = application(given.study)
    out = console()
    out.print(f"raters open http://{escaped(given.host)}:{given.port}  (stop with Ctrl-C)")
    out.print(f"answers:    {escaped(str(given.study / DATABASE))}; progress: /progress")
    try:
        uvicorn.run(app, host=given.host, port=given.port, log_level="warning")
    except SystemExit as error:  # uvicorn has said why
        raise RunError(f"cannot serve at {given.host}:{given.port}: is the port in use?") from error
    return 0


def _montage(folder: Path, name: str, study: Study) -> Montage:
    path = folder / "pictures" / f"{name}.webp"
    try:
        n = next(item.pictures for item in study.items if item.montage == name)
        return Montage(path.read_bytes(), n)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}; build the study again") from error
