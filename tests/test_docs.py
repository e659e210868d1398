"""What the documentation says is so: its examples run, and the reference is that of conf/."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from dnr_bench.app.composition import load_config
from dnr_bench.app.config_reference import PAGE, reference
from dnr_bench.app.main import COMMANDS
from dnr_bench.results.schema import RunResult
from tests.conftest import ROOT, CommandLine


def test_the_reference_is_that_of_the_configs() -> None:
    assert PAGE.read_text() == reference(), "run: python -m dnr_bench.config_reference"


@pytest.mark.slow
def test_every_part_of_ones_own_runs_as_the_page_has_it(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "extending.md").read_text()
    blocks = re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 10
    for name, text in blocks:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        assert len(text.strip().splitlines()) < 20, name
    rng = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for i in range(30):
        pixels = (rng.random((64, 64, 3)) * rng.integers(60, 255)).astype(np.uint8)
        cv2.imwrite(str(tmp_path / "pictures" / f"{i}.png"), pixels)
    (command,) = re.findall(r"```\n(dnr-bench --config-dir.*?)```", page, re.DOTALL)
    words = command.replace("\\\n", " ").replace("'", "").split()[1:]
    small = ["generator=renderer", "images_per_concept=3", "report=false"]
    done = subprocess.run(
        [sys.executable, "-m", "dnr_bench", *words, *small],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("mlruns/runs/*/result.json")
    result = RunResult.read(path)
    labels = {label for neuron in result.neurons for label in neuron.labels}
    assert labels
    assert labels <= {"bright", "dark", "picture", "bright picture", "dark picture"}
    assert (result.probe.name, result.probe.images) == ("my folder", 30)
    assert result.metrics["brevity.shortness"].mean >= 0.5


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.name
)
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda p: p.name)
def test_every_page_says_whom_it_is_for_and_what_is_next(page: Path) -> None:
    text = page.read_text()
    assert re.search(r"^For (every|new|who)", text.partition("\n## ")[0], re.MULTILINE)
    last = text.rstrip().rpartition("\n\n")[2]
    assert last.startswith("**Next:** ")
    assert "](" in last


def test_every_page_is_in_the_menu_of_the_site_and_in_the_readme() -> None:
    source = (ROOT / "docs" / "conf.py").read_text()
    readme = (ROOT / "README.md").read_text()
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert {name for name in pages if f'"{name}"' in source} == pages
    assert {name for name in pages if f"](docs/{name}.md)" in readme} == pages


def test_every_command_of_the_cookbook_is_composed() -> None:
    page = (ROOT / "docs" / "cookbook.md").read_text().replace("\\\n", " ")
    commands = [line for line in page.splitlines() if line.startswith("dnr-bench ")]
    assert len(commands) > 30
    composed = 0
    for command in commands:
        words = shlex.split(command, comments=True)[1:]
        assert words
        if words[0] in COMMANDS or "study" in words or words[0].startswith("-"):
            continue
        load_config(*words)
        composed += 1
    assert composed > 15


@pytest.mark.slow
def test_every_command_of_the_worked_example_runs(tmp_path: Path, command_line: CommandLine) -> None:
    page = (ROOT / "docs" / "your_network.md").read_text()
    (script,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "make_pictures.py").write_text(script)
    subprocess.run([sys.executable, "make_pictures.py"], cwd=tmp_path, check=True)
    lines = page.replace("\\\n", " ").splitlines()
    commands = [line for line in lines if line.startswith("dnr-bench ")]
    assert len(commands) == 4
    outputs = []
    for command in commands:
        done = command_line(shlex.split(command)[1:])
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout + done.stderr)
    labels, comparison, written, verdict = outputs
    assert "held_out.correlation" in labels
    assert "know the shapes world alone" in labels
    assert "Differences to posterior" in comparison
    assert "wrote" in written
    assert "fine" in verdict
    assert {"gate.md", "gate.xml", "mine.yaml"} <= {path.name for path in tmp_path.iterdir()}
