"""Where MLflow keeps runs: a database of ours, which is whole or not there, or what the user names."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

from filelock import FileLock
from mlflow.store.db import utils as databases
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from dnr_bench.infra.errors import RunError, UsageError
from dnr_bench.outputs.mlflow.artifacts import LOCATION

VARIABLE = "MLFLOW_TRACKING_URI"
_SQLITE = "sqlite:///"
_SERVERS = ("http", "https")
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
#: Attempts to reach a database; MLflow's own ten take minutes.
_ATTEMPTS = 5
#: Seconds for which another process may set the place up.
_SETUP = 15.0
#: Seconds for which a locked database is waited for.
_PATIENCE = 10.0


@dataclass(frozen=True)
class Place:
    """Where runs are logged.

    uri: as MLflow takes it. database: the SQLite file, where it is one. mlruns: the folder of local files.
    """

    uri: str
    database: Path | None
    mlruns: Path

    @property
    def shown(self) -> str:
        """For messages, without a password."""
        return str(self.database or _without_password(self.uri))

    @property
    def is_server(self) -> bool:
        """Whether it has pages of its own to look at."""
        return urlsplit(self.uri).scheme in _SERVERS

    @property
    def artifacts(self) -> str | None:
        """Where new experiments keep their files; None: where the server says."""
        return LOCATION if self.database else None


def tracking_place(mlruns: Path, uri: str | None = None) -> Place:
    """The place that a setting names, else the environment variable, else the database in `mlruns`.

    Raises:
        UsageError: it is no address that MLflow knows.
    """
    named = uri or os.environ.get(VARIABLE)
    if not named:
        database = mlruns.resolve() / "mlflow.db"
        return Place(f"{_SQLITE}{database}", database, mlruns)
    where = f"tracking.uri={uri!r}" if uri else f"the environment variable {VARIABLE}"
    try:
        parts = urlsplit(named)
        known = parts.port != 0 and "\0" not in named
    except ValueError:
        known = False
    if known and not parts.scheme and named.endswith(".db"):
        named = f"{_SQLITE}{Path(named).resolve()}"
    elif known and parts.scheme.partition("+")[0] not in (*_SERVERS, *_DATABASES, "databricks", "file"):
        known = False
    if not known or (parts.scheme in _SERVERS and not parts.hostname):
        raise UsageError(
            f"{where} must be a server (http://127.0.0.1:5000), a database (sqlite:///runs.db, postgresql://...)"
            " or a file ending in .db"
        )
    if uri and parts.password:
        raise UsageError(
            "tracking.uri holds a password, which would be written into results: the environment variable"
            f" {VARIABLE} is the place for such an address"
        )
    if not named.startswith(_SQLITE):
        return Place(named, None, mlruns)
    database = Path(named.removeprefix(_SQLITE)).resolve()
    return Place(f"{_SQLITE}{database}", database, mlruns)


@contextmanager
def prepared(place: Place) -> Iterator[None]:
    """A place that is there and can be written to, while no other process sets it up.

    Raises:
        RunError: it cannot be used, with the reason.
    """
    databases.MAX_RETRY_COUNT = _ATTEMPTS
    if place.database is None:
        yield
        return
    folder = place.database.parent
    with ExitStack() as locked:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            locked.enter_context(FileLock(folder / ".lock", timeout=_SETUP))
            _create(place.database)
            _check(place.database)
        except Exception as error:  # of the file system, SQLite, SQLAlchemy, Alembic
            raise unusable(place, error) from error
        yield


def unusable(place: Place, error: object) -> RunError:
    """Why runs cannot be logged there."""
    reason = _without_password(" ".join(str(error).split()))
    return RunError(f"MLflow cannot use {place.shown}: {reason[:500]}")


def _without_password(text: str) -> str:
    return re.sub(r"://[^/@\s]*@", "://***@", text)


def _create(database: Path) -> None:
    """MLflow builds a database step by step; one that is broken off half way would never work again."""
    if database.exists() and database.stat().st_size:
        return
    for left in database.parent.glob(f".{database.name}.*.partial*"):  # of processes that were killed
        left.unlink()
    partial = database.with_name(f".{database.name}.{uuid4().hex}.partial")
    store = SqlAlchemyStore(f"{_SQLITE}{partial}", LOCATION)
    store.engine.dispose()
    partial.replace(database)


def _check(database: Path) -> None:
    """Raises the reason at once where MLflow would try again for minutes."""
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True, timeout=_PATIENCE)) as connection:
        tables = {
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        connection.execute("BEGIN IMMEDIATE")
        connection.rollback()
    if "alembic_version" not in tables:
        raise sqlite3.DatabaseError(
            "it is no database of MLflow's, or its creation was broken off; move it away, and the next run"
            " creates another"
        )
