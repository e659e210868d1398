"""The wheel runs from an empty folder without the checkout, and so does a package with parts of one's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from dnr_bench.app.commands.gate import Baseline
from dnr_bench.results.schema import RunResult
from tests.conftest import ROOT, SMALL

Tool = Callable[..., subprocess.CompletedProcess[str]]
#: A scorer, an evaluator and a target, each with its YAML file, and no line of the checkout changed.
PACKAGE = {
    "pyproject.toml": """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "my-parts"
version = "1.0"
[project.entry-points."dnr_bench.conf"]
mine = "my_parts.conf"
""",
    "my_parts/__init__.py": "",
    "my_parts/conf/__init__.py": "",
    "my_parts/parts.py": """
import numpy as np

from dnr_bench.data.scorecard import Scorecard
from dnr_bench.session import Evaluator
from dnr_bench.shapes.target import hooked_network


class Highest:
    needs = frozenset()

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def score(self, evidence):
        return self.weight * np.nanmax(evidence.activations, axis=1)


class Brevity(Evaluator):
    def evaluate(self, description, session):
        labeled = [e for e in description.explanations if e.labels]
        values = [1 / len(e.labels[0].split()) for e in labeled]
        yield Scorecard.of_neurons(
            "brevity", "shortness", labeled, values, unit="share", headline=True, higher_is_better=True
        )


def my_target(device: str):
    return hooked_network("embedded:target", pool="max", device=device, batch_size=64)
""",
    "my_parts/conf/scorer/highest.yaml": "_target_: my_parts.parts.Highest\nweight: 1.0\n",
    "my_parts/conf/evaluator/brevity.yaml": "_target_: my_parts.parts.Brevity\n",
    "my_parts/conf/target/mine.yaml": "_target_: my_parts.parts.my_target\ndevice: ${device}\n",
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has the wheel and the libraries, but not the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    pip(sys.executable, "wheel", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT))
    (wheel,) = folder.glob("dnr_bench-*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    pip(str(python), "install", str(wheel))
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    for name, text in PACKAGE.items():
        path = folder / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    pip(str(python), "install", "--no-build-isolation", str(folder / "mine"))
    return folder / "venv" / "bin"


def pip(python: str, command: str, *words: str) -> None:
    given = ["--quiet", "--disable-pip-version-check", "--no-deps", *words]
    subprocess.run([sys.executable, "-m", "pip", "--python", python, command, *given], check=True)


@pytest.fixture
def tool(installed: Path, tmp_path: Path, shared_store: Path) -> Tool:
    """`dnr-bench` of that environment, in an empty folder."""

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [installed / "dnr-bench", *words],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done

    return call


@pytest.mark.slow
def test_the_wheel_runs_parts_of_another_package_from_an_empty_folder(
    tool: Tool, installed: Path, tmp_path: Path, shared_store: Path
) -> None:
    where = [installed / "python", "-c", "import dnr_bench; print(dnr_bench.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert str(installed.parent) in found

    mine = [*SMALL, f"paths.store={shared_store}", "captioner=dataset", "scorer=highest", "target=mine"]
    mine.append("evaluator=[brevity]")
    jobs = [f"hydra.sweep.dir={tmp_path / 'jobs'}", "scorer.weight=1,2"]
    shown = tool("run", "-m", *mine, *jobs).stdout
    assert "Jobs of this multirun" in shown
    assert "dnr-bench ui opens MLflow" in shown  # there is no Makefile here
    assert "brevity" in shown
    result = RunResult.read(tmp_path / "jobs" / "0")
    assert result.metrics["brevity.shortness"].n == len([n for n in result.neurons if n.labels]) > 5

    assert "brevity.shortness" in tool("compare", "jobs").stdout

    baseline = Baseline.of(result)
    assert list(baseline.tolerances) == ["brevity.shortness"]
    baseline.write(tmp_path / "mine.yaml")
    assert "fine" in tool("gate", "run=jobs/1", "baseline=mine.yaml").stdout

    study = ["study=scoring", "study.metric=brevity.shortness", "study.space=[{highest:{weight:[0.5,2.0]}}]"]
    study += ["study.compared=[highest]", "study.seeds=[0]", "study.folds=2", "n_trials=4"]
    assert "brevity.shortness of held-out neurons" in tool("study", *mine, *study).stdout


@pytest.mark.slow
def test_the_notebook_runs_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    code = (
        "import nbformat, sys\n"
        "from nbclient import NotebookClient\n"
        "notebook = nbformat.read(sys.argv[1], as_version=4)\n"
        "NotebookClient(notebook, timeout=300, kernel_name='python3').execute()\n"
    )
    command = [installed / "python", "-c", code, ROOT / "docs" / "describe.ipynb"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "my_report" / "report.html").exists()
    assert RunResult.read(tmp_path / "my_report").metrics["planted.exact"].mean > 0.5


def test_the_notebook_is_kept_with_its_outputs() -> None:
    notebook = json.loads((ROOT / "docs" / "describe.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] for cell in cells[1:])
    assert not [o for cell in cells for o in cell["outputs"] if o["output_type"] == "error"]
