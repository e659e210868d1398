"""What counts as a failure of the harness, and the table of tries."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tests.attack.children import Ended

#: Exit codes as documented: fine, failed, wrong request, interrupted.
CODES = (0, 1, 2, 130)


def complaint(ended: Ended, allowed: tuple[int, ...] = CODES) -> str | None:
    """What is wrong with the way a command ended; None where nothing is."""
    if ended.hung:
        return f"it hung for {ended.seconds:.0f} s"
    if ended.code not in allowed:
        return f"exit code {ended.code}, expected {allowed}: {_last(ended)}"
    if "Traceback (most recent call last)" in ended.errors:
        return f"a traceback: {_last(ended)}"
    if "error: unexpected " in ended.errors:
        return f"a defect: {_last(ended)}"
    if ended.code in (1, 2) and "error: " not in ended.errors and "worse" not in ended.output:
        return f"exit code {ended.code} without a message: {_last(ended)}"
    return None


def _last(ended: Ended) -> str:
    lines = [
        line for line in ended.errors.splitlines() if line.strip() and not line.startswith("(debug=true")
    ]
    return " / ".join(lines[-3:])[:400]


@dataclass
class Tally:
    """Tries and failures by kind."""

    tries: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[str, str, str]] = field(default_factory=list)

    def note(self, kind: str, name: str, wrong: str | None, tries: int = 1) -> None:
        """Count a try; `wrong`: what failed."""
        self.tries[kind] += tries
        if wrong is not None:
            self.failures.append((kind, name, wrong))
            print(f"  FAILED {kind}: {name[:200]!r}: {wrong}", flush=True)

    def table(self) -> str:
        """One line per kind."""
        failed = Counter(kind for kind, _, _ in self.failures)
        lines = [f"{'kind':<32}{'tries':>7}{'failures':>10}"]
        lines += [f"{kind:<32}{n:>7}{failed[kind]:>10}" for kind, n in self.tries.items()]
        return "\n".join([*lines, f"{'all':<32}{self.tries.total():>7}{failed.total():>10}"])
