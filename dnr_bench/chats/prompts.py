"""Prompts of chat models, from files under conf/prompts or the user's own."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.shipped import CONF
from dnr_bench.infra.text_files import read_text

_FIELD = re.compile(r"\{(\w+)\}")
_EXAMPLE = re.compile(r"^(?:label|short caption|answer):[ \t]*(\S.*)$", re.IGNORECASE | re.MULTILINE)
_LONG_WORD = re.compile(r"[^\W\d_]{4,}")


def read_prompt(path: str, key: str, *fields: Sequence[str]) -> str:
    """The text of a prompt file; `key`: the setting that names it.

    fields: the {fields} that it must hold, and no others; of several lists those of one.

    A path is looked for in the working directory; conf/prompts/summarize.txt and its like ship with us.
    """
    own = CONF.parent / path
    text = read_text(own if not Path(path).exists() and own.exists() else path, key).strip()
    found = set(_FIELD.findall(text))
    if all(found != set(choice) for choice in fields):
        told = (", ".join(f"{{{name}}}" for name in sorted(choice)) or "none" for choice in fields)
        wanted = ", or ".join(told)
        raise UsageError(f"{key}={path!r} must hold the fields {wanted}; it has {sorted(found) or 'none'}")
    return text


def examples_in(prompt: str) -> frozenset[str]:
    """The answers of a prompt's worked examples, in lower case: what stands behind "Label:" and the like."""
    return frozenset(
        answer.strip().lower() for answer in _EXAMPLE.findall(prompt) if answer.strip() and "{" not in answer
    )


def is_parroted(answer: str, examples: Collection[str], about: Collection[str]) -> bool:
    """Whether an answer is that of a worked example, and shares no longer word with what was asked about."""
    if answer.strip().lower() not in examples:
        return False
    asked = {word for text in about for word in _LONG_WORD.findall(text.lower())}
    return not asked & set(_LONG_WORD.findall(answer.lower()))


def filled(prompt: str, **values: str) -> str:
    """The prompt with its fields; braces in values stay what they are."""
    return _FIELD.sub(lambda match: values[match[1]], prompt)
