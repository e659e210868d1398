"""Opens MLflow on what has been run: dnr-bench ui [mlruns]."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from dnr_bench.app.command_line import CommandParser
from dnr_bench.infra.errors import UsageError


def main(words: Sequence[str]) -> int:
    """Replace this process by the MLflow UI."""
    parser = CommandParser("ui", __doc__)
    parser.add_argument(
        "mlruns", nargs="?", type=Path, default=Path("mlruns"), help="where MLflow keeps runs"
    )
    parser.add_argument("--port", type=int, default=5000)
    arguments = parser.parse_args(words)
    from dnr_bench.outputs.mlflow.places import tracking_place
    from dnr_bench.outputs.mlflow.tracker import Tracker

    place = tracking_place(arguments.mlruns)
    if place.is_server:
        raise UsageError(f"MLFLOW_TRACKING_URI names a server, which has pages of its own: {place.shown}")
    Tracker(place, "dnr_bench")
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", place.uri]
    os.execv(sys.executable, [*command, "--host", "127.0.0.1", "--port", str(arguments.port)])
