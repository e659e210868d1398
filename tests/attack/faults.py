"""A hostile chat server: faults, odd answers, kills; no paid answer may be lost or paid twice."""

from __future__ import annotations

import json
import random
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.attack.children import PATIENCE, Child, command
from tests.attack.kills import findings, same
from tests.attack.values import TINY
from tests.attack.verdicts import Tally, complaint
from tests.helpers.chat_server import KEY, ODD, chat_server

#: Those that change what an answer says are left out, since results are held against those of a sound server.
FAULTS = ["429", "500", "timeout", "truncated", "wait", *(odd for odd in ODD if odd != "half a character")]
QUESTIONS = (
    *TINY,
    "summarizer=openai",
    "summarizer.chat.backoff=0.01",
    "summarizer.chat.timeout=0.8",
    "summarizer.chat.attempts=12",
    "neurons.units=[0,9,13,20,27]",
)


@contextmanager
def hostile_server(folder: Path, seed: int, share: float, delay: float = 0.0) -> Iterator[Path]:
    """A server in a process of its own; the file that it keeps tells its address and what was paid."""
    state_file = folder / "server.json"

    def serve() -> int:
        served: list[str] = []

        def fault(number: int) -> str | None:
            chosen = random.Random(f"{seed} {number}")
            found = chosen.choice(FAULTS) if chosen.random() < share else None
            served.extend([found] if found else [])
            return found

        with chat_server(fault) as server:
            server.delay = delay
            while True:
                with server.lock:
                    state = {
                        "url": server.url,
                        "paid": dict(server.paid),
                        "asked": len(server.requests),
                        "faults": len(served),
                    }
                partial = state_file.with_suffix(".partial")
                partial.write_text(json.dumps(state))
                partial.replace(state_file)
                time.sleep(0.02)

    child = Child(serve, folder / "server")
    try:
        while not state_file.exists():
            time.sleep(0.01)
        yield state_file
    finally:
        child.send(signal.SIGKILL)
        child.wait()


def state_of(file: Path) -> dict[str, Any]:
    """What the server knows, once it has written it down."""
    time.sleep(0.1)
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def faulty_series(seed: int, share: float, folder: Path, tally: Tally) -> None:
    """A run against faults, and again on its store: the labels of a sound server, each answer paid once."""
    with (
        hostile_server(folder / "sound", seed, 0) as sound,
        hostile_server(folder / "faulty", seed, share) as faulty,
    ):
        whole = _asked(sound, folder / "whole", seed)
        first = _asked(faulty, folder / "faults", seed)
        asked = state_of(faulty)
        again = _asked(faulty, folder / "faults", seed)
        wrong = complaint(whole, (0,)) or complaint(first, (0,)) or complaint(again, (0,))
        if wrong is None and state_of(faulty)["asked"] != asked["asked"]:
            wrong = "a second run asked again"
        if wrong is None and any(times != 1 for times in asked["paid"].values()):
            wrong = "an answer was paid twice"
        if wrong is None and set(asked["paid"]) != set(state_of(sound)["paid"]):
            wrong = "other questions than of a sound server"
        if wrong is None and not same(_newest(folder / "whole"), _newest(folder / "faults")):
            wrong = "other labels than of a sound server"
        tally.note("faults of chat services", f"seed {seed}", wrong, max(asked["faults"], 1))
    shutil.rmtree(folder, ignore_errors=True)


def killed_chats(seed: int, kills: int, folder: Path, tally: Tally) -> None:
    """Interrupt a run while questions are on their way: what was paid is kept."""
    rng = random.Random(seed)
    with hostile_server(folder / "slow", seed, 0.1, delay=0.15) as server:
        for _ in range(kills):
            child = Child(_command(server, seed), folder / "killed", {"OPENAI_API_KEY": KEY})
            ended = child.kill_after(rng.uniform(0.5, 4), rng.choice([signal.SIGTERM, signal.SIGINT]))
            tally.note("kills of runs that ask", f"seed {seed}", complaint(ended, (0, 130, -2, -15)))
        last = Child(_command(server, seed), folder / "killed", {"OPENAI_API_KEY": KEY}).wait(2 * PATIENCE)
        wrong = complaint(last, (0,))
        if wrong is None and any(times != 1 for times in state_of(server)["paid"].values()):
            wrong = "an answer was paid twice"
        tally.note("paid answers after kills", f"seed {seed}", wrong)
    shutil.rmtree(folder, ignore_errors=True)


def _command(server: Path, seed: int) -> Any:
    return command([*QUESTIONS, f"summarizer.chat.base_url={state_of(server)['url']}", f"seed={seed}"])


def _asked(server: Path, folder: Path, seed: int) -> Any:
    return Child(_command(server, seed), folder, {"OPENAI_API_KEY": KEY}).wait(2 * PATIENCE)


def _newest(folder: Path) -> dict[str, Any]:
    return findings(max((folder / "mlruns" / "runs").iterdir()))
