"""Writes docs/config.md: every value and group of conf/ with its default and what its comment says.

python -m dnr_bench.app.config_reference
"""

from __future__ import annotations

import re
from pathlib import Path

from dnr_bench.infra.shipped import CONF

PAGE = CONF.parent / "docs" / "config.md"
_HEAD = """# Every setting

Written by `python -m dnr_bench.app.config_reference` from the comments in `conf/`; change those.

A value is set with `key=value`, a group's member with `group=member`, and a member's own values with
`group.key=value`. `a,b,c` after `-m` runs all of them.
"""


def reference() -> str:
    """The page as Markdown."""
    groups = sorted(path for path in CONF.iterdir() if path.is_dir() and path.name != "baselines")
    top = [("config.yaml", "Values of a run"), ("sweep.yaml", "Values of a study (`dnr-bench study`)")]
    parts = [_HEAD, *(f"## {title}\n\n{_block(CONF / name)}" for name, title in top)]
    for group in groups:
        parts.append(f"## {group.name}\n")
        parts += [_member(group.name, path) for path in sorted(group.glob("*.yaml"))]
    return "\n".join(parts).rstrip() + "\n"


def _member(group: str, path: Path) -> str:
    if group in ("experiment", "variant"):
        return f"- `+{group}={path.stem}`: {_summary(path)}\n"
    choice = f"[{path.stem}]" if group == "evaluator" else path.stem
    return f"### {group}={choice}\n\n{_summary(path)}\n\n{_block(path)}"


def _summary(path: Path) -> str:
    """The comment at the top of a file."""
    lines = []
    for line in path.read_text().splitlines():
        if line.startswith("# @package"):
            continue
        if not line.startswith("#") or line == "#":
            break
        lines.append(line.removeprefix("#").strip())
    return " ".join(lines)


def _block(path: Path) -> str:
    """The values of a file with their comments, without what Hydra alone reads."""
    kept: list[str] = []
    skipping = False
    for line in path.read_text().splitlines():
        if not line.startswith((" ", "#", "-")) and line.strip():
            skipping = bool(re.match(r"(defaults|hydra):", line))
        if not skipping and not (line.startswith("#") and not kept):
            kept.append(line)
    text = "\n".join(kept).strip()
    return f"```yaml\n{text}\n```\n" if text else ""


def main() -> int:
    """Write the page."""
    PAGE.write_text(reference())
    print(f"written: {PAGE.relative_to(CONF.parent)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
