"""CIFAR-10 and CIFAR-100 in their binary version, which needs no pickle (Krizhevsky 2009)."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np

from dnr_bench.data.images import ProbeSet
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.text_files import read_text
from dnr_bench.probes.subset import check_n_images, subset
from dnr_bench.stages.lazy import Lazy

_PIXELS = 3 * 32 * 32
_FILES = {
    ("cifar10", "train"): [f"data_batch_{number}.bin" for number in range(1, 6)],
    ("cifar10", "test"): ["test_batch.bin"],
    ("cifar100", "train"): ["train.bin"],
    ("cifar100", "test"): ["test.bin"],
}
_NAMES = {"cifar10": "batches.meta.txt", "cifar100": "fine_label_names.txt"}


class CifarProbe:
    """`path`: the folder of the unpacked cifar-10-binary or cifar-100-binary archive.

    Classes are the ten, or the hundred fine ones. n_images: so many, chosen by the seed; None: all.
    """

    def __init__(
        self,
        path: str,
        kind: Literal["cifar10", "cifar100"],
        split: Literal["train", "test"],
        n_images: int | None,
    ) -> None:
        check_n_images(n_images)
        self.root, self.kind, self.split, self.n_images = Path(path), kind, split, n_images
        if missing := [name for name in self._files() if not (self.root / name).is_file()]:
            raise UsageError(f"path={path!r} lacks {', '.join(missing)} of the binary version of {kind}")

    def load(self, seed: int) -> ProbeSet:
        """The images, mapped from their files."""
        header = 1 if self.kind == "cifar10" else 2  # the coarse class comes first
        blocks = []
        for name in self._files()[:-1]:
            data = np.memmap(self.root / name, np.uint8, "r")
            if len(data) == 0 or len(data) % (header + _PIXELS):
                raise UsageError(f"{self.root / name} has {len(data)} bytes, which is no number of images")
            blocks.append(data.reshape(-1, header + _PIXELS))
        lengths = np.cumsum([0, *(len(block) for block in blocks)])
        numbers = subset(int(lengths[-1]), self.n_images, seed)

        def row(index: int) -> np.ndarray:
            block = int(np.searchsorted(lengths, numbers[index], side="right")) - 1
            found: np.ndarray = blocks[block][numbers[index] - lengths[block]]
            return found

        def pixels(index: int) -> np.ndarray:
            planes = row(index)[header:].reshape(3, 32, 32)
            return np.ascontiguousarray(np.moveaxis(planes, 0, -1))

        text = read_text(self.root / _NAMES[self.kind], "path")
        names = [line.strip().replace("_", " ") for line in text.splitlines() if line.strip()]
        labels = [int(row(index)[header - 1]) for index in range(len(numbers))]
        if max(labels) >= len(names):
            raise UsageError(f"{self.root / _NAMES[self.kind]} names {len(names)} classes, too few")
        return ProbeSet(
            name=f"{self.kind}-{self.split}-{len(numbers)}",
            ids=[f"{self.kind}-{sha256(pixels(i).tobytes()).hexdigest()}" for i in range(len(numbers))],
            images=Lazy(len(numbers), pixels),
            classes=[names[label] for label in labels],
        )

    def _files(self) -> list[str]:
        return [*_FILES[self.kind, self.split], _NAMES[self.kind]]
