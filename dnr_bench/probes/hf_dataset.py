"""A Hugging Face dataset from disk (Dataset.save_to_disk) as a probing set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets

from dnr_bench.data.images import ProbeSet
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.files import read_regular
from dnr_bench.probes.checked import Checking, OnError, Source, probe_set, readable


class HuggingFaceProbe:
    """The column `image` of a dataset; `caption` and `label` name columns of texts and of classes, or None.

    split: of a dictionary of datasets. The other arguments are those of `FolderProbe`.
    """

    def __init__(
        self,
        path: str,
        split: str | None,
        image: str,
        caption: str | None,
        label: str | None,
        n_images: int | None,
        on_error: OnError,
        max_pixels: int,
        background: str,
        store: str,
    ) -> None:
        self.path, self.split = path, split
        self.image, self.caption, self.label = image, caption, label
        self.n_images, self.checking = n_images, Checking(on_error, max_pixels, background, store)
        if not Path(path).is_dir():
            raise UsageError(f"path={path!r} is no folder")

    def load(self, seed: int) -> ProbeSet:
        """The images that can be read."""
        table = self._table()
        images = table.cast_column(self.image, datasets.Image(decode=False))
        state = getattr(table, "_fingerprint", "")

        def read(number: int) -> bytes:
            entry = images[number][self.image]
            if entry is None or (entry["bytes"] is None and entry["path"] is None):
                return b""
            content = entry["bytes"]
            return bytes(content) if content is not None else read_regular(entry["path"])

        source = Source(
            [f"row {number}" for number in range(len(table))], lambda _: [str(self.path), state], read
        )
        captions = [str(text) for text in table[self.caption]] if self.caption is not None else None
        where = f"the dataset {self.path!r}"
        found = readable(source, self.checking, self.n_images, seed, where)
        return probe_set(
            f"{Path(self.path).name}-{len(found.ids)}",
            source,
            found,
            self.checking,
            captions,
            self._classes(table),
        )

    def _table(self) -> Any:
        try:
            loaded = datasets.load_from_disk(self.path)
        except Exception as error:  # of pyarrow, of JSON, or its own
            raise UsageError(f"path={self.path!r} is no dataset of save_to_disk: {error}") from error
        if isinstance(loaded, datasets.DatasetDict):
            if self.split not in loaded:
                raise UsageError(f"split={self.split!r}: the dataset has the splits {', '.join(loaded)}")
            loaded = loaded[self.split]
        for key in ("image", "caption", "label"):
            column = getattr(self, key)
            if column is not None and column not in loaded.column_names:
                raise UsageError(
                    f"{key}={column!r}: the dataset has the columns {', '.join(loaded.column_names)}"
                )
        if not isinstance(loaded.features[self.image], datasets.Image):
            raise UsageError(f"image={self.image!r} holds no images but {loaded.features[self.image]}")
        return loaded

    def _classes(self, table: Any) -> list[str] | None:
        if self.label is None:
            return None
        kind = table.features[self.label]
        named = isinstance(kind, datasets.ClassLabel)
        for row, value in enumerate(table[self.label]):
            if value is None or (named and value < 0):  # as test splits have it
                raise UsageError(f"label={self.label!r}: row {row} has no class; label=null goes without")
        return [kind.int2str(value) if named else str(value) for value in table[self.label]]
