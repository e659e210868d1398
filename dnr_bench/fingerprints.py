"""Names for what a model computes: digests of weights and checkpoint directories."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import torch
from torch import nn

from dnr_bench.errors import UsageError
from dnr_bench.shapes.world import CHECKPOINTS

_EMBEDDED = "embedded:"


def checkpoint_path(name: str) -> Path:
    """A checkpoint directory; "embedded:clip" is one of those that ship with the package."""
    path = CHECKPOINTS / name.removeprefix(_EMBEDDED) if name.startswith(_EMBEDDED) else Path(name)
    if not path.is_dir():
        embedded = sorted(f"{_EMBEDDED}{folder.name}" for folder in CHECKPOINTS.iterdir() if folder.is_dir())
        raise UsageError(f"there is no checkpoint directory {name!r}; embedded are {', '.join(embedded)}")
    return path


def model_digest(model: nn.Module) -> str:
    """SHA-256 over the structure and all weights of a model."""
    total = sha256(repr(model).encode())
    for name, value in sorted(model.state_dict().items()):
        total.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
        total.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def directory_digest(directory: Path) -> str:
    """SHA-256 over the names and contents of a directory's files."""
    total = sha256()
    for path in sorted(file for file in directory.rglob("*") if file.is_file()):
        total.update(str(path.relative_to(directory)).encode())
        total.update(path.read_bytes())
    return total.hexdigest()
