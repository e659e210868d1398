"""A folder of images as a probing set: ImageNet, Places365, EuroSAT, aerial tiles, or one of yours."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from dnr_bench.data.images import ProbeSet
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.files import read_regular
from dnr_bench.infra.text_files import csv_rows, read_text, spoken_name
from dnr_bench.probes.checked import Checking, OnError, Source, probe_set, readable

_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".npy",
)  # fmt: skip


class FolderProbe:
    """All images of a folder and of the folders in it, in order of their names.

    captions: a CSV file with the columns file and caption. labels: "folders" takes the class of an image from
    the name of its folder; a CSV file with the columns file and label, or ImageId and PredictionString; or
    lines "file label" as Places365 has them. class_names: a file that tells what a label means, as lines
    "n01440764 tench" or "/a/airfield 0" (a number comes first or last); of several names by comma the first
    counts. n_images: so many, chosen by the seed; None: all. The other arguments are those of `Checking`.
    """

    def __init__(
        self,
        path: str,
        captions: str | None,
        labels: str | None,
        class_names: str | None,
        n_images: int | None,
        on_error: OnError,
        max_pixels: int,
        background: str,
        store: str,
    ) -> None:
        self.root = Path(path)
        if not self.root.is_dir():
            raise UsageError(f"path={path!r} is no folder")
        if class_names is not None and labels is None:
            raise UsageError(f"class_names={class_names!r} needs labels to name: labels=folders, or a file")
        self.captions, self.labels, self.class_names = captions, labels, class_names
        self.n_images, self.checking = n_images, Checking(on_error, max_pixels, background, store)

    def load(self, seed: int) -> ProbeSet:
        """The images that can be read."""
        names = image_names(self.root)
        if not names:
            raise UsageError(f"path={str(self.root)!r} holds no images ({', '.join(_SUFFIXES)})")
        captions = _captions(self.captions, names) if self.captions is not None else None
        classes = self._classes(names) if self.labels is not None else None
        source = folder_source(self.root, names)
        found = readable(source, self.checking, self.n_images, seed, f"the folder {str(self.root)!r}")
        return probe_set(
            f"{self.root.name}-{len(found.ids)}", source, found, self.checking, captions, classes
        )

    def _classes(self, names: Sequence[str]) -> list[str]:
        labels = (
            [Path(name).parent.name for name in names]
            if self.labels == "folders"
            else _labels(str(self.labels), names)
        )
        if "" in labels:
            raise UsageError(
                f"labels=folders, but {names[labels.index('')]} lies in {str(self.root)!r} itself: each class"
                " needs a folder of its own"
            )
        if self.class_names is None:
            return [label.replace("_", " ") for label in labels]
        known = _meanings(self.class_names)
        if unknown := sorted(set(labels) - known.keys()):
            raise UsageError(f"class_names={self.class_names!r} does not name {unknown[:3]}")
        return [known[label] for label in labels]


def folder_source(root: Path, names: Sequence[str]) -> Source:
    """The files of a folder as encoded images."""

    shown = [name.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for name in names]

    def state(number: int) -> object:
        try:
            found = (root / names[number]).stat()
        except OSError as error:
            return str(error.strerror)
        return [str(root.resolve()), found.st_size, found.st_mtime_ns]

    return Source(shown, state, lambda number: read_regular(root / names[number]))


def image_names(root: Path) -> list[str]:
    """The paths of all image files below a folder, relative to it, in order; hidden ones do not count."""
    found, seen = [], set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link back
            folders[:] = []
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        place = Path(folder).relative_to(root)
        found += [
            (place / name).as_posix()
            for name in files
            if not name.startswith(".") and name.lower().endswith(_SUFFIXES)
        ]
    return sorted(found)


def _captions(path: str, names: Sequence[str]) -> list[str]:
    """A caption for every image."""
    return _of_files(_rows(path, "captions", ("file", "caption")), names, f"captions={path!r}")


def _labels(path: str, names: Sequence[str]) -> list[str]:
    text = read_text(path, "labels")
    head = text.partition("\n")[0]
    if re.search(r"\bfile\b.*\blabel\b|\blabel\b.*\bfile\b", head):
        rows = _rows(path, "labels", ("file", "label"))
    elif "PredictionString" in head:  # of ImageNet's validation set: "n03995372 85 1 499 272"
        found = _rows(path, "labels", ("ImageId", "PredictionString"))
        rows = {f"{name}.JPEG": label.split()[0] for name, label in found.items()}
    else:
        lines = [line.rsplit(maxsplit=1) for line in text.splitlines() if line.strip()]
        if any(len(line) != 2 for line in lines):
            raise UsageError(f"labels={path!r} is neither a CSV file (file,label) nor lines 'file label'")
        rows = {name.lstrip("/"): label for name, label in lines}
    return _of_files(rows, names, f"labels={path!r}")


def _rows(path: str, key: str, columns: tuple[str, str]) -> dict[str, str]:
    where = f"{key}={path!r}"
    found = {}
    for line, cells in csv_rows(read_text(path, key), columns, where):
        if cells is None:
            raise UsageError(f"{where}, line {line}: more values than columns; quote what holds a comma")
        found[cells[columns[0]]] = cells[columns[1]]
    return found


def _of_files(rows: Mapping[str, str], names: Sequence[str], where: str) -> list[str]:
    """The entry of each image in a file, found by its path in the folder or by its name alone."""
    found = [rows.get(name) or rows.get(Path(name).name) for name in names]
    without = [name for name, value in zip(names, found, strict=True) if not value]
    if without:
        raise UsageError(f"{where} says nothing of {len(without)} images: {', '.join(without[:3])} ...")
    return [value for value in found if value]


def _meanings(path: str) -> dict[str, str]:
    known = {}
    for line in read_text(path, "class_names").splitlines():
        words = line.split()
        if len(words) < 2:
            continue
        if words[-1].isdigit():
            label, name = words[-1], spoken_name(" ".join(words[:-1]))
        else:
            label, name = words[0], " ".join(words[1:])
        known[label] = name.partition(",")[0].replace("_", " ").strip()
    if not known:
        raise UsageError(f"class_names={path!r} holds no lines of a label and its name")
    return known
