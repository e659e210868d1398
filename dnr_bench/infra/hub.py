"""Models by name: embedded ones, directories of yours, and names on the model hub."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from dnr_bench.infra.errors import RunError, UsageError
from dnr_bench.infra.fingerprints import checkpoint_path, directory_digest
from dnr_bench.infra.shipped import EMBEDDED

T = TypeVar("T")

#: What is never fetched: weights in formats that need pickle, or are for other frameworks.
_LEFT_OUT = (
    "*.pt",
    "*.pth",
    "*.ckpt",
    "*.h5",
    "*.msgpack",
    "*.onnx",
    "*.ot",
    "onnx/*",
    "openvino/*",
)


def model_directory(checkpoint: str) -> tuple[Path, str]:
    """The directory of a model, fetched if it is a name like owner/model, and what identifies its weights."""
    if is_local(checkpoint):
        path = checkpoint_path(checkpoint)
        return path, directory_digest(path)
    snapshot = fetched(checkpoint, lambda: _downloaded(checkpoint))
    return snapshot, snapshot.name  # the commit


def config_value(directory: Path, key: str, kind: Callable[[Any], T], refusal: str) -> T:
    """A value of a model's config.json as `kind`; without such a one `UsageError` says `refusal` and why."""
    try:
        return kind(json.loads((directory / "config.json").read_text(encoding="utf-8"))[key])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UsageError(f"{refusal}: {error!r}") from error


def _downloaded(checkpoint: str) -> str:
    """Weights as safetensors; where a model has none, its .bin files, which are read with weights_only."""
    from huggingface_hub import snapshot_download

    found: str = snapshot_download(checkpoint, ignore_patterns=[*_LEFT_OUT, "*.bin"])
    if not any(Path(found).rglob("*.safetensors")):
        found = snapshot_download(checkpoint, ignore_patterns=list(_LEFT_OUT))
    return found


def is_local(checkpoint: str) -> bool:
    """Whether a checkpoint is an embedded one or a directory, not a name on the hub."""
    return checkpoint.startswith(EMBEDDED) or Path(checkpoint).is_dir()


def fetched(checkpoint: str, download: Callable[[], str]) -> Path:
    """The folder that `download` fetches for a name like owner/model; failures raise a clear error."""
    if Path(checkpoint).is_absolute() or checkpoint.startswith(".") or checkpoint.count("/") != 1:
        raise UsageError(
            f"checkpoint={checkpoint!r} is neither a directory nor a name on the model hub like owner/model"
        )
    try:
        return Path(download())
    except Exception as error:  # the hub's client and its network library have no common class
        raise RunError(
            f"checkpoint={checkpoint!r} is no directory here and could not be had from the hub: "
            f"{' '.join(str(error.__cause__ or error).split()) or type(error).__name__}"
        ) from error


def short_name(checkpoint: str) -> str:
    """A checkpoint's name for people: of a directory or file its last part, as others have other folders."""
    return Path(checkpoint).name if Path(checkpoint).exists() else checkpoint
