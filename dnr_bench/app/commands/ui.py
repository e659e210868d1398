"""Opens MLflow on what has been run: dnr-bench ui [mlruns]."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from dnr_bench.app.command_line import CommandParser


def main(words: Sequence[str]) -> int:
    """Replace this process by the MLflow UI."""
    parser = CommandParser("ui", __doc__)
    parser.add_argument(
        "mlruns", nargs="?", type=Path, default=Path("mlruns"), help="where MLflow keeps runs"
    )
    parser.add_argument("--port", type=int, default=5000)
    arguments = parser.parse_args(words)
    from dnr_bench.outputs.mlflow.tracker import Tracker

    tracker = Tracker(arguments.mlruns, "dnr_bench")
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", tracker.uri]
    os.execv(sys.executable, [*command, "--host", "127.0.0.1", "--port", str(arguments.port)])
