"""Names for what a model computes: digests of weights and checkpoint directories."""

from __future__ import annotations

from collections.abc import Collection
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from dnr_bench.infra.digests import content_digest
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.shipped import CHECKPOINTS, EMBEDDED, embedded_path

if TYPE_CHECKING:
    from torch import nn


def checkpoint_path(name: str) -> Path:
    """A checkpoint directory; "embedded:clip" is one of those that ship with the package."""
    path = embedded_path(name)
    if not path.is_dir():
        embedded = sorted(f"{EMBEDDED}{folder.name}" for folder in CHECKPOINTS.iterdir() if folder.is_dir())
        raise UsageError(f"there is no checkpoint directory {name!r}; embedded are {', '.join(embedded)}")
    return path


def model_digest(model: nn.Module) -> str:
    """SHA-256 over the structure and all weights of a model."""
    import torch

    total = sha256(repr(model).encode())
    for name, value in sorted(model.state_dict().items()):
        total.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
        total.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def directory_digest(directory: Path, parts: Collection[str] | None = None) -> str:
    """SHA-256 over the names and contents of a directory's files; `parts`: only these files and folders.

    Hidden files (a version control's, a download's) do not count.
    """
    total = sha256()
    for path in sorted(file for file in directory.rglob("*") if file.is_file()):
        place = path.relative_to(directory)
        if not any(name.startswith(".") for name in place.parts) and (
            parts is None or place.parts[0] in parts
        ):
            total.update(f"{place} {content_digest(path)}\n".encode())
    return total.hexdigest()
