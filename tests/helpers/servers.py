"""Real servers on loopback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def mlflow_server(store: str, folder: Path) -> Iterator[str]:
    """The address of a server of MLflow's that keeps runs in `store`, and files in a folder."""
    address = f"http://127.0.0.1:{free_port()}"
    words = ["--host", "127.0.0.1", "--port", address.rpartition(":")[2], "--workers", "1"]
    words += ["--backend-store-uri", store, "--artifacts-destination", str(folder / "artifacts")]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *words], stdout=log, stderr=log, start_new_session=True
        )
        try:
            for _ in range(240):
                try:
                    urlopen(f"{address}/health", timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.25)
            yield address
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
