"""Files that ship with the package: configs and prompts, and the embedded checkpoints."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent.parent

#: In a checkout conf/ stands beside the package, in a wheel within it.
CONF = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent / "conf"

#: Checkpoints are named "embedded:clip" and the like.
CHECKPOINTS = _PACKAGE / "shapes" / "checkpoints"
EMBEDDED = "embedded:"


def config_members(group: str) -> list[Path]:
    """The files of a config group that ship with the package; none for what is no group."""
    plain = group and all(part.isidentifier() for part in group.split("/"))
    return sorted((CONF / group).glob("*.yaml")) if plain else []


def world_of(checkpoint: str) -> str | None:
    """The one world that a checkpoint knows: embedded ones that of the shapes, others are not limited."""
    own = checkpoint.startswith(EMBEDDED) or Path(checkpoint).resolve().is_relative_to(CHECKPOINTS.resolve())
    return "shapes" if own else None


def embedded_path(name: str) -> Path:
    """The path of a file or folder by name; "embedded:concepts.txt" is one that ships with the package."""
    return CHECKPOINTS / name.removeprefix(EMBEDDED) if name.startswith(EMBEDDED) else Path(name)
