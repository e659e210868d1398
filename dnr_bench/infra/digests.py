"""Names for content: SHA-256 of keys, of files and of pixels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

import numpy as np

#: What a stored item depends on: plain values that JSON can hold.
Key = Mapping[str, Any]


def digest(key: Key) -> str:
    """The name under which a key's value is stored: SHA-256 of its canonical JSON."""
    text = json.dumps(key, sort_keys=True, ensure_ascii=False)
    return sha256(text.encode(errors="surrogatepass")).hexdigest()  # half a character is a key, too


def fingerprint_of(kind: str, settings: Key | None = None) -> str:
    """The fingerprint of a part whose results depend on its code, which stages see to, and its settings."""
    return digest({"kind": kind, **(settings or {})})


def content_digest(path: Path) -> str:
    """SHA-256 of a file's content, which is read in blocks."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def pixels_digest(image: np.ndarray) -> str:
    """A name for an array's content, shape and type included."""
    head = f"{image.dtype}{image.shape}".encode()
    return sha256(head + np.ascontiguousarray(image).tobytes()).hexdigest()
