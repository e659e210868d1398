"""What several test files share: small real parts, built once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from dnr_bench.bench import RunConfig
from dnr_bench.command_line import composed
from dnr_bench.config import build_run
from dnr_bench.run import RunResult, run
from dnr_bench.types import Activations, ProbeSet, Pruning, Rendering
from tests.small_files import all_files
from tests.small_models import SmallModels

ROOT = Path(__file__).parent.parent

#: Eleven units of every kind, few images, drawn by the oracle: a whole run in seconds.
SMALL = (
    "generator=renderer",
    "neurons.units=[0,9,13,20,27,35,40,50,53,60,62]",
    "neurons.layers=[concepts]",
    "probe.n_images=300",
    "images_per_concept=4",
)


class NothingHeldOut:
    """For evaluators that look at no image."""

    drawn_by = "nobody"

    def activations(self, images: ProbeSet) -> dict[str, Activations]:
        raise AssertionError

    def pruned(self, images: ProbeSet, layer: str, prunings: Sequence[Pruning]) -> list[Activations]:
        raise AssertionError

    def cosines(self, images: ProbeSet, texts: Sequence[str]) -> Iterator[np.ndarray]:
        raise AssertionError

    def draw(self, concepts: Sequence[str]) -> dict[str, Rendering]:
        raise AssertionError


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallModels:
    """Small checkpoints of the real classes."""
    return SmallModels(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small file of every kind that members of conf/ read."""
    return all_files(tmp_path_factory.mktemp("files"))


@pytest.fixture
def small_run(tmp_path: Path) -> Callable[..., RunConfig]:
    """Builds the configuration of a small run whose store lies in this test's folder."""

    def build(*overrides: str, store: str = "store") -> RunConfig:
        return build_run(composed(*SMALL, f"paths.store={tmp_path / store}", *overrides))

    return build


@pytest.fixture
def label_run(tmp_path: Path) -> Callable[..., RunResult]:
    """Runs the evaluators on labels of units of `concepts`, which no method has to find."""

    def call(labels: Mapping[int, str], *overrides: str) -> RunResult:
        rows = "".join(f'concepts,{unit},"{label}"\n' for unit, label in labels.items())
        (tmp_path / "labels.csv").write_text(f"layer,unit,label\n{rows}")
        given = ["method=precomputed", f"method.path={tmp_path / 'labels.csv'}", "neurons.layers=[concepts]"]
        store = f"paths.store={tmp_path / 'store'}"
        return run(build_run(composed("generator=renderer", *given, store, *overrides)))

    return call


@pytest.fixture
def command_line(tmp_path: Path) -> Callable[[Sequence[str]], subprocess.CompletedProcess[str]]:
    """Runs `python -m dnr_bench` in this test's folder."""

    def call(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "dnr_bench", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return call
