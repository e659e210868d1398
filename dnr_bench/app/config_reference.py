"""Writes docs/config.md: every value and group of conf/ with its default and what its comment says.

python -m dnr_bench.app.config_reference
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from dnr_bench.infra.shipped import CONF

PAGE = CONF.parent / "docs" / "config.md"
_HEAD = """# Every setting

Written by `python -m dnr_bench.app.config_reference` from the comments in `conf/`; change those.

A value is set with `key=value`, a group's member with `group=member`, and a member's own values with
`group.key=value`. `a,b,c` after `-m` runs all of them.

For everyone who looks up what a setting does. [The cookbook](cookbook.md) has the common ones by purpose.

## Index

"""
_NEXT = """

**Next:** [parts of your own](extending.md) for members that are not here, or the [cookbook](cookbook.md).
"""
#: What the groups choose, for the index; the groups of whole runs last.
_PURPOSES = {
    "target": "the network", "probe": "the probing images", "corruption": "noise and the like on them",
    "method": "how neurons are described", "captioner": "captions of exemplars",
    "summarizer": "captions to candidate concepts", "proposals": "further candidates",
    "generator": "images of concepts", "scorer": "scores of candidates", "refine": "the loop of DnR",
    "chat": "language models", "encoder": "the CLIP",
    "sentence_encoder": "sentence vectors", "bert_score": "BERTScore", "held_out": "held-out images",
    "evaluator": "judges of labels", "experiment": "whole experiments", "variant": "changes to a run",
    "study": "searches over settings",
}  # fmt: skip
#: Groups whose members are a line each.
_LISTED = ("experiment", "variant")


def reference() -> str:
    """The page as Markdown."""
    found = {path.parent.name for path in CONF.glob("*/*.yaml")} - {"baselines"}
    groups = [CONF / name for name in (*_PURPOSES, *sorted(found - _PURPOSES.keys()))]
    top = [("config.yaml", "Values of a run"), ("sweep.yaml", "Values of a study (`dnr-bench study`)")]
    parts = [_HEAD + _index(groups), *(f"## {title}\n\n{_block(CONF / name)}" for name, title in top)]
    for group in groups:
        parts.append(f"## {group.name}\n")
        parts += [_member(group.name, path) for path in sorted(group.glob("*.yaml"))]
    return "\n".join(parts).rstrip() + _NEXT


def _index(groups: Sequence[Path]) -> str:
    """A line per group with links to its members; the headings are those that the page has."""
    keys = re.findall(r"^(\w+):", _block(CONF / "config.yaml"), re.MULTILINE)
    lines = [
        "| group | what it chooses | members |",
        "|---|---|---|",
        f"| [a run](#values-of-a-run) | what belongs to no group | {', '.join(f'`{key}`' for key in keys)} |",
    ]
    for group in groups:
        names = [path.stem for path in sorted(group.glob("*.yaml"))]
        listed = group.name in _LISTED
        members = ", ".join(f"`{name}`" if listed else f"[{name}](#{group.name}{name})" for name in names)
        lines.append(f"| [`{group.name}`](#{group.name}) | {_PURPOSES.get(group.name, '')} | {members} |")
    return "\n".join(lines) + "\n"


def _member(group: str, path: Path) -> str:
    if group in _LISTED:
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
