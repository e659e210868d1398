"""What words a tokenizer knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def has_unknown_words(tokenizer: Any, texts: Sequence[str]) -> list[bool]:
    """For each text whether a tokenizer of transformers puts its mark for unknown words in it.

    Tokenizers of letters and bytes have no such mark, and know every word.
    """
    unknown = getattr(tokenizer, "unk_token_id", None)
    if unknown is None or not texts:
        return [False] * len(texts)
    tokens = tokenizer(list(texts), truncation=True, verbose=False)["input_ids"]
    return [unknown in ids for ids in tokens]
