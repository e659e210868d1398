"""The embedded checkpoints reach what the model card says, on fewer images."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors import safe_open

from dnr_bench.shapes.check import CHECKS
from dnr_bench.shapes.world import CHECKPOINTS

#: The text-to-image model still draws some shapes badly, which the captioner then misreads (model card).
SHORT = pytest.mark.xfail(reason="the generator needs longer training", strict=False)


@pytest.mark.parametrize(
    ("model", "n"),
    [
        ("target", 2000),
        ("clip", 1100),
        ("judge", 1000),
        pytest.param("captioner", 300, marks=SHORT),
        pytest.param("generator", 14, marks=SHORT),
    ],
)
def test_figures_on_held_out_images(model: str, n: int) -> None:
    for figure in CHECKS[model](f"embedded:{model}", n):
        if figure.at_least is not None:
            assert figure.value >= figure.at_least - 0.02, figure  # fewer images, wider spread


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
