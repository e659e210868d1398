"""The embedded checkpoints reach what the model card says, on fewer images."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors import safe_open

from dnr_bench.shapes.check import CHECKS
from dnr_bench.shapes.world import CHECKPOINTS

#: What falls short until the text-to-image model draws shapes better (model card).
FALLS_SHORT = ("generated images", "mean over kinds", "pair", "alternatives")


@pytest.mark.parametrize(
    ("model", "n"), [("target", 2000), ("clip", 1100), ("captioner", 300), ("judge", 1000), ("generator", 14)]
)
def test_figures_on_held_out_images(model: str, n: int) -> None:
    # fewer images than the model card's, wider spread
    missed = [f for f in CHECKS[model](f"embedded:{model}", n) if f.value < (f.at_least or 0) - 0.02]
    assert [f for f in missed if not any(name in f.name for name in FALLS_SHORT)] == []
    if missed:
        pytest.xfail(f"longer training is needed: {missed}")


def test_no_checkpoint_names_a_folder_of_the_machine_that_made_it() -> None:
    for path in CHECKPOINTS.rglob("*.json"):
        assert '": "/' not in path.read_text(), path


def test_checkpoints_are_small_safetensors_in_half_precision() -> None:
    weights = sorted(CHECKPOINTS.rglob("*.safetensors"))
    assert {path.relative_to(CHECKPOINTS).parts[0] for path in weights} == set(CHECKS)
    assert sum(path.stat().st_size for path in CHECKPOINTS.rglob("*") if path.is_file()) < 40e6
    assert not [path for path in CHECKPOINTS.rglob("*") if path.suffix in (".bin", ".pt", ".pth", ".pkl")]
    for path in weights:
        assert _types(path) <= {"F16", "I64"}, path


def _types(path: Path) -> set[str]:
    with safe_open(path, "np") as file:
        return {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
