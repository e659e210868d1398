"""What words a model of texts knows, read from its tokenizer's file without loading the model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.text_files import read_text

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Vocabulary:
    """That of a model's folder; None stands for one of letters and bytes, which knows every word."""

    def __init__(self, folder: Path | None) -> None:
        self.file = folder / "tokenizer.json" if folder is not None else None

    def unknown(self, texts: Sequence[str]) -> list[bool]:
        """For each text whether the tokenizer puts its mark for unknown words in it."""
        if self._known is None or not texts:
            return [False] * len(texts)
        tokenizer, mark = self._known
        found = tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [mark in of_text.ids for of_text in found]

    @cached_property
    def _known(self) -> tuple[Tokenizer, int] | None:
        """The tokenizer and the number of its mark; None for those that have no mark."""
        if self.file is None or not self.file.is_file():
            return None
        from tokenizers import Tokenizer

        text = read_text(self.file, "checkpoint")
        try:
            tokenizer, model = Tokenizer.from_str(text), json.loads(text)["model"]
        except Exception as error:  # the library raises Exception itself
            raise UsageError(f"{self.file} is no tokenizer: {error}") from error
        mark = model.get("unk_id")
        if mark is None and model.get("unk_token") is not None:
            mark = tokenizer.token_to_id(model["unk_token"])
        tokenizer.no_truncation()
        return None if mark is None else (tokenizer, int(mark))
