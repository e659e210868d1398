"""Shows how much the store holds, and makes room: dnr-bench store [--prune unused|oldest].

The store keeps what stages have computed, so that runs share it. What is removed is computed again when a
run asks for it; answers of chat models are never removed, as they were paid for.

  dnr-bench store                               sizes by stage and by run
  dnr-bench store --prune unused                remove what no run in mlruns refers to
  dnr-bench store --prune oldest --to 20GB      remove what was longest not used, down to this size
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from rich import box
from rich.table import Table

from dnr_bench.app.command_line import CommandParser
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.store_contents import Entry, entries, oldest, references, remove, unused
from dnr_bench.outputs.terminal.console import console, escaped
from dnr_bench.results.comparison import Outcome

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?B)", re.IGNORECASE)
#: Runs in the table.
_SHOWN = 20


def main(words: Sequence[str]) -> int:
    """Show the store, or remove some of it."""
    parser = CommandParser("store", __doc__)
    parser.add_argument("--mlruns", type=Path, default=Path("mlruns"), help="the folder of the runs")
    parser.add_argument("--store", type=Path, help="the folder of the store; otherwise MLRUNS/store")
    parser.add_argument("--prune", choices=["unused", "oldest"], help="what to remove")
    parser.add_argument("--to", metavar="SIZE", help="with --prune oldest: the size to reach, as 20GB")
    parser.add_argument("--hours", type=float, default=24.0, help="unused items that are younger stay (24)")
    parser.add_argument("--dry", action="store_true", help="only tell what would be removed")
    arguments = parser.parse_args(words)
    if (arguments.prune == "oldest") != (arguments.to is not None):
        raise UsageError("--prune oldest and --to SIZE belong together")
    if arguments.hours < 0:
        raise UsageError(f"--hours={arguments.hours} must be at least 0")
    root = arguments.store or arguments.mlruns / "store"
    if not root.is_dir():
        raise UsageError(f"there is no store at {root}: --store names its folder")
    most = None if arguments.to is None else _size(arguments.to)
    found, runs = entries(root), dict(references(arguments.mlruns / "runs"))
    if arguments.prune is None:
        _print(root, found, runs)
        return 0
    if most is None:
        _check_noted(arguments.mlruns, runs)
        used = {item for of_run in runs.values() for item in of_run}
        leaving = unused(found, used, time.time() - 3600 * arguments.hours)
    else:
        leaving = oldest(found, _last_used(runs), most)
    if not arguments.dry:
        remove(leaving)
    told = "would be removed" if arguments.dry else "removed"
    left = sum(e.size for e in found) - sum(e.size for e in leaving)
    console().print(
        f"{len(leaving):,} items ({spoken_size(sum(e.size for e in leaving))}) {told};"
        f" {spoken_size(left)} {'would stay' if arguments.dry else 'stay'}"
    )
    return 0


def _check_noted(mlruns: Path, runs: Collection[Path]) -> None:
    """Raises `UsageError` where nobody has told what is used; tells of runs that have not."""
    if not runs:
        raise UsageError(f"no run in {mlruns / 'runs'} has noted what it uses: nothing can be called unused")
    silent = {path.parent for path in (mlruns / "runs").rglob("result.json")} - set(runs)
    if silent:
        print(f"warning: {len(silent)} runs have not noted what they use, as older versions", file=sys.stderr)


def spoken_size(size: int) -> str:
    """Bytes for people: 1.2 GB."""
    unit = max((name for name in _UNITS if size >= _UNITS[name]), key=lambda n: _UNITS[n], default="B")
    return f"{size} B" if unit == "B" else f"{size / _UNITS[unit]:.1f} {unit}"


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"--to={text!r} must be a size as 500MB or 20GB")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def _last_used(runs: Mapping[Path, set[tuple[str, str]]]) -> dict[tuple[str, str], float]:
    """When the newest run ended that refers to an item."""
    found: dict[tuple[str, str], float] = {}
    for folder, items in runs.items():
        ended = folder.stat().st_mtime
        found |= {item: max(ended, found.get(item, 0.0)) for item in items}
    return found


def _print(root: Path, found: Sequence[Entry], runs: Mapping[Path, set[tuple[str, str]]]) -> None:
    out = console()
    used = {item for of_run in runs.values() for item in of_run}
    stages = Table("stage", box=box.SIMPLE_HEAD)
    for name in ("items", "size", "of it unused"):
        stages.add_column(name, justify="right")
    by_stage = {name: [e for e in found if e.stage == name] for name in sorted({e.stage for e in found})}
    for name, of_stage in {**by_stage, "all": list(found)}.items():
        idle = sum(e.size for e in of_stage if (e.stage, e.name) not in used)
        size = sum(e.size for e in of_stage)
        stages.add_row(escaped(name), f"{len(of_stage):,}", spoken_size(size), spoken_size(idle))
    out.print(f"{root}")
    out.print(stages)
    if not runs:
        out.print("no run here has noted what it uses")
        return
    sizes = {(e.stage, e.name): e.size for e in found}
    shared: dict[tuple[str, str], int] = {}
    for item in (item for of_run in runs.values() for item in of_run):
        shared[item] = shared.get(item, 0) + 1
    table = Table("run", "settings", box=box.SIMPLE_HEAD)
    for name in ("size", "no other run uses"):
        table.add_column(name, justify="right")
    for folder in sorted(runs, key=lambda folder: folder.stat().st_mtime)[-_SHOWN:]:
        outcome = Outcome.read(folder)
        whole = sum(sizes.get(item, 0) for item in runs[folder])
        own = sum(sizes.get(item, 0) for item in runs[folder] if shared[item] == 1)
        title = outcome.title if outcome else ""
        table.add_row(escaped(folder.name), escaped(title), spoken_size(whole), spoken_size(own))
    out.print(table)
