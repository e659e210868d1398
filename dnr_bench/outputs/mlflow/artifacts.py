"""Artifacts beside the tracking database, found by a relative address: a moved checkout still finds them.

MLflow makes local addresses absolute. An address of its own scheme stays as it is, and MLflow asks the class
below where it lies (entry point `mlflow.artifact_repository` in pyproject.toml).
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from mlflow.exceptions import MlflowException
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

SCHEME = "beside-database"
#: Where experiments keep their artifacts.
LOCATION = f"{SCHEME}:/artifacts"
_SQLITE = "sqlite:///"
#: Where MLflow's server keeps the address of its database; its own module of constants imports the server.
_OF_SERVER = "_MLFLOW_SERVER_FILE_STORE"


class BesideDatabase(LocalArtifactRepository):  # type: ignore[misc]
    """Files in the folder of the SQLite database that knows of them."""

    def __init__(
        self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
    ) -> None:
        place = urlsplit(artifact_uri).path.strip("/")
        super().__init__((_folder(tracking_uri) / place).as_uri(), tracking_uri, registry_uri)


def _folder(tracking_uri: str | None) -> Path:
    """The folder of the database: the one that is named, or the one of this server or process."""
    from mlflow import get_tracking_uri  # MLflow loads this module while it is being imported itself

    found = tracking_uri or os.environ.get(_OF_SERVER) or get_tracking_uri()
    if not str(found).startswith(_SQLITE):
        raise MlflowException(f"artifacts at {SCHEME}: lie beside an SQLite database, and {found} is none")
    return Path(str(found).removeprefix(_SQLITE)).absolute().parent
