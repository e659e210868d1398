"""Broden (Bau et al. 2017): images with masks of objects, parts, materials, colors, textures and scenes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image as PILImage

from dnr_bench.data.images import ConceptMasks, ProbeSet
from dnr_bench.infra.errors import RunError, UsageError
from dnr_bench.infra.text_files import csv_rows, read_text
from dnr_bench.probes.checked import Checking, OnError, probe_set, readable
from dnr_bench.probes.folder import folder_source


class BrodenProbe:
    """`path`: a folder with index.csv, label.csv, category.csv and images/ (broden1_224 and its likes).

    split: rows of this split only, or all. An image's class is its scene, where all images have one. The
    other arguments are those of `FolderProbe`.
    """

    def __init__(
        self,
        path: str,
        split: Literal["train", "val", "all"],
        n_images: int | None,
        on_error: OnError,
        max_pixels: int,
        background: str,
        store: str,
    ) -> None:
        self.root, self.split = Path(path), split
        self.n_images, self.checking = n_images, Checking(on_error, max_pixels, background, store)
        for name in ("index.csv", "label.csv", "category.csv"):
            if not (self.root / name).is_file():
                raise UsageError(f"path={path!r} is no Broden folder: it has no {name}")

    def load(self, seed: int) -> ProbeSet:
        """The images that can be read, with the masks of their concepts."""
        categories = [row["name"] for row in self._table("category.csv", ("name",))]
        labels = self._table("label.csv", ("number", "name", "category"))
        numbers = [_whole(row["number"], "number", self.root / "label.csv") for row in labels]
        kinds = [row["category"].partition("(")[0].partition(";")[0].strip() for row in labels]
        names = [_plain(row["name"]) for row in labels]
        place = {number: index for index, number in enumerate(numbers)}
        rows = [
            row
            for row in self._table("index.csv", ("image", "split", "sh", "sw", *categories))
            if self.split in ("all", row["split"])
        ]
        if not rows:
            raise UsageError(f"split={self.split!r}: index.csv has no such row")
        for row in rows:
            for column in ("sh", "sw"):
                _whole(row[column], column, self.root / "index.csv")
        source = folder_source(self.root / "images", [row["image"] for row in rows])
        where = f"the Broden folder {str(self.root)!r}"
        found = readable(source, self.checking, self.n_images, seed, where)
        kept = [rows[number] for number in found.numbers]

        def load(index: int) -> tuple[np.ndarray, np.ndarray]:
            return _masks(self.root / "images", kept[index], categories, place)

        masks = ConceptMasks(
            names=names,
            categories=kinds,
            load=load,
            annotated=lambda index: frozenset(c for c in categories if kept[index][c]),
            version=self._version(kept, labels),
        )
        name = f"broden-{self.split}-{len(found.ids)}"
        images = probe_set(name, source, found, self.checking)
        return replace(images, concepts=masks, classes=_scenes(kept, place, names))

    def _table(self, name: str, columns: Sequence[str]) -> list[Mapping[str, str]]:
        where = f"{self.root / name}"
        rows = []
        for line, cells in csv_rows(read_text(self.root / name, "path"), columns, where):
            if cells is None:
                raise UsageError(f"{where}, line {line}: more values than columns")
            rows.append(cells)
        if not rows:
            raise UsageError(f"{where} has no rows")
        return rows

    def _version(self, rows: Sequence[Mapping[str, str]], labels: Sequence[Mapping[str, str]]) -> str:
        text = "\n".join(repr(sorted(row.items())) for row in (*rows, *labels))
        return f"broden-1-{sha256(text.encode()).hexdigest()}"


def _plain(name: str) -> str:
    """Names as people write them: "airport_terminal-s" is a scene, "blue-c" a color."""
    stem, dash, suffix = name.rpartition("-")
    return (stem if dash and suffix in ("s", "c") else name).replace("_", " ")


def _scenes(
    rows: Sequence[Mapping[str, str]], place: Mapping[int, int], names: Sequence[str]
) -> list[str] | None:
    found = [row.get("scene", "").partition(";")[0] for row in rows]
    known = all(label.isdigit() and int(label) in place for label in found)
    return [names[place[int(label)]] for label in found] if known else None


def _whole(text: str, column: str, file: Path) -> int:
    if not text.isdigit():
        raise UsageError(f"{file}: {text!r} in column {column} is no whole number")
    return int(text)


def _masks(
    images: Path, row: Mapping[str, str], categories: Sequence[str], place: Mapping[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """An index row's concepts: a number stands for the whole image, a file for the labels of its pixels."""
    height, width = int(row["sh"]), int(row["sw"])
    masks: dict[int, np.ndarray] = {}
    for entry in (part for category in categories for part in row[category].split(";") if part):
        if entry.isdigit():
            plane = np.full((height, width), int(entry))
        else:
            try:
                with PILImage.open(images / entry) as picture:
                    pixels = np.asarray(picture.convert("RGB")).astype(np.int64)
            except (OSError, SyntaxError) as error:
                raise RunError(f"the masks {images / entry} cannot be read: {error}") from error
            plane = pixels[..., 0] + 256 * pixels[..., 1]
        if plane.shape != (height, width):
            raise RunError(f"the masks {images / entry} are {plane.shape}, index.csv says {(height, width)}")
        for label in np.unique(plane):
            if label:
                masks[int(label)] = masks.get(int(label), np.zeros((height, width), bool)) | (plane == label)
    known = sorted(label for label in masks if label in place)
    stacked = np.stack([masks[label] for label in known]) if known else np.zeros((0, height, width), bool)
    return np.asarray([place[label] for label in known], np.int64), stacked
