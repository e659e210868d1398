"""Measure: `make bench`, about ten minutes on two cores. Every row is a ratio of two times of this machine.

python -m tests.bench                        everything
python -m tests.bench --only stages pass     some of it: stages, pass, memory, runs, loop, ray
python -m tests.bench --long                 more photographs, neurons and images (docs/performance.md)
python -m tests.bench --gpu                  stages of full-size architectures at random weights on a GPU

The table is also written to mlruns/bench.json and logged to MLflow.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ["TQDM_DISABLE"] = "1"

from rich import box
from rich.console import Console
from rich.table import Table

from dnr_bench.app.main import prepare_process

prepare_process()

from dnr_bench.outputs.mlflow.places import tracking_place  # noqa: E402
from dnr_bench.outputs.mlflow.tracker import Tracker  # noqa: E402
from tests.bench import models  # noqa: E402
from tests.bench.efficiency import efficiencies  # noqa: E402
from tests.bench.executors import executors  # noqa: E402
from tests.bench.one_at_a_time import one_at_a_time  # noqa: E402
from tests.bench.passes import passes  # noqa: E402
from tests.bench.pictures import jpegs  # noqa: E402
from tests.bench.rows import Row, child  # noqa: E402
from tests.bench.runs import runs  # noqa: E402

KINDS = ("stages", "pass", "memory", "runs", "loop", "ray")


def measured(only: Sequence[str], long: bool, root: Path, told: Callable[[str], None]) -> list[Row]:
    """The rows of these kinds."""
    photos = jpegs(root / "photos", 600 if long else 160, 375, 500)
    found: list[Row] = []
    kinds: dict[str, Callable[[], list[Row]]] = {
        "stages": lambda: efficiencies(photos, root / "stages", models.small(root), 24 if long else 12),
        "pass": lambda: passes(photos, root / "pass", 5 if long else 3),
        "memory": lambda: memory(root / "memory", long),
        "runs": lambda: runs(root / "runs"),
        "ray": lambda: executors(root / "ray"),
        "loop": lambda: one_at_a_time(root / "loop", 8 if long else 3),
    }
    for kind in only:
        told(kind)
        found += kinds[kind]()
    return found


def memory(folder: Path, long: bool) -> list[Row]:
    """Peaks of processes of their own."""
    many, images = (1000, 50_000) if long else (250, 10_000)

    def peak(kind: str, n: int) -> dict[str, float]:
        place = folder / f"{kind}{n}"
        place.parent.mkdir(parents=True, exist_ok=True)
        return child(["tests.bench.memory", kind, str(n), str(place)], folder)

    few, more = peak("neurons", 50)["peak"], peak("neurons", many)["peak"]
    thousand, rest = peak("images", 1000)["peak"], peak("images", images)["peak"]
    large = peak("large", 100 if long else 20)
    gained = (large["peak"] - large["before"]) / 1000
    return [
        Row(f"memory: {many:,} neurons / 50", more / few, "at most 1.1", more, few, "MB",
            "512x512, five concepts each"),
        Row(f"memory: {images:,} images / 1,000", rest / thousand, "at most 1.05", rest, thousand, "MB"),
        Row("memory: pictures of 12 megapixels, above start", gained, "at most 1", of="GB"),
    ]  # fmt: skip


def main() -> int:
    """Measure, print, write and log."""
    parser = argparse.ArgumentParser(prog="tests.bench", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--only", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--images", type=int, default=5000, help="with --gpu")
    parser.add_argument("--neurons", type=int, default=100, help="with --gpu")
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 50], help="with --gpu: of the generator")
    arguments = parser.parse_args()
    started, out = time.time(), Console()
    with TemporaryDirectory(prefix="dnr_bench-") as name:
        root = Path(name)
        if arguments.gpu:
            photos = jpegs(root / "photos", arguments.images, 375, 500)
            rows = [
                row
                for steps in arguments.steps
                for row in efficiencies(
                    photos, root / f"s{steps}", models.full(root, steps), arguments.neurons
                )
            ]
        else:
            rows = measured(
                arguments.only, arguments.long, root, lambda kind: out.print(f"[dim]{kind} ...[/dim]")
            )
    _print(rows, out)
    _keep(rows, started)
    return 0


def _print(rows: Sequence[Row], out: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("what", "ratio", "goal", "from", "note"):
        table.add_column(column, justify="right" if column == "ratio" else "left")
    for row in rows:
        value = f"{row.value:.3g}" + (f" {row.of}" if row.ours is None else "")
        style = {True: "green", False: "red", None: ""}[row.holds]
        parts = "" if row.ours is None else f"{row.ours:.3g} / {row.other:.3g} {row.of}"
        table.add_row(row.name, value, row.goal, parts, row.note, style=style)
    out.print(table)


def _keep(rows: Sequence[Row], started: float) -> None:
    mlruns = Path("mlruns")
    mlruns.mkdir(exist_ok=True)
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    content = {**machine, "rows": [asdict(row) for row in rows]}
    (mlruns / "bench.json").write_text(json.dumps(content, indent=1))
    metrics = {row.name.replace(":", "/").replace(",", " "): row.value for row in rows}
    Tracker(tracking_place(mlruns), "dnr_bench_speed").log_study(
        "bench", started, machine, metrics, {"bench": [asdict(row) for row in rows]}, {}, []
    )


if __name__ == "__main__":
    sys.exit(main())
