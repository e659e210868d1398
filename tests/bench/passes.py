"""The pass over photographs against a bare loop over torch's DataLoader, and against decoding alone."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image as PILImage
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models import resnet50

from dnr_bench.data.images import ProbeSet
from dnr_bench.infra.store import Store
from dnr_bench.probes.folder import FolderProbe
from dnr_bench.stages.activations import probe_activations
from dnr_bench.targets.hooked import HookedTarget
from dnr_bench.targets.preprocessing import Preprocessing
from tests.bench.pictures import jpegs
from tests.bench.rows import Row, interleaved, seconds

_SEEN = Preprocessing(256, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_BATCH = 32
_MANY = 960


class _Files(Dataset[Tensor]):
    """Decoded and resized files, as a bare loop reads them."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.glob("*.jpg"))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> Tensor:
        picture = PILImage.open(BytesIO(self.files[number].read_bytes())).convert("RGB")
        return _SEEN.seen(np.array(picture))


def passes(photos: Path, folder: Path, repeats: int) -> list[Row]:
    """Where the model is the limit, and where decoding is."""
    many = jpegs(folder / "many", _MANY, 375, 500)  # so that reading, and not starting, is what takes time
    count = iter(range(1000))

    def ours(model: nn.Module, layer: str, images: ProbeSet) -> float:
        target = HookedTarget(model, _SEEN, batch_size=_BATCH)
        chosen = [found for found in target.layers() if found.name == layer]
        store = Store(folder / f"pass{next(count)}")
        return seconds(lambda: probe_activations(store, target, images, chosen))

    few_images, many_images = _checked(photos, folder), _checked(many, folder)

    large, small = resnet50().eval(), nn.Sequential(nn.Conv2d(3, 8, 7, 8), nn.AdaptiveAvgPool2d(1)).eval()
    bound = interleaved(
        [partial(ours, large, "layer4", few_images), lambda: seconds(lambda: _bare(large, photos))], repeats
    )
    decoding = interleaved(
        [
            partial(ours, small, "0", many_images),
            lambda: seconds(lambda: _bare(small, many)),
            lambda: seconds(lambda: _decode(many)),
        ],
        repeats,
    )
    n, n_many = len(few_images.images), len(many_images.images)
    return [
        Row("pass, model-bound: ours / bare DataLoader loop", bound[0] / bound[1], "at most 1.05", *bound,
            "s", f"ResNet-50, {n} JPEGs"),
        Row("pass, decode-bound: bare loop / ours", decoding[1] / decoding[0], "", decoding[1], decoding[0],
            "s", "one convolution"),
        Row("pass, decode-bound: decoding on all cores / ours", decoding[2] / decoding[0], "at least 0.9",
            decoding[2], decoding[0], "s", f"{n_many / decoding[0]:.0f} JPEGs per second"),
    ]  # fmt: skip


def _checked(photos: Path, folder: Path) -> ProbeSet:
    """The photographs, checked before anything is timed, as they are in the bare loop."""
    settings = (None, None, None, None, "error", 10**8, "white", str(folder / "noted"))
    return FolderProbe(str(photos), *settings).load(0)


@torch.inference_mode()
def _bare(model: nn.Module, folder: Path) -> None:
    """What anybody would write: a loader with a worker per core, and the mean of one layer."""
    for seen in DataLoader(_Files(folder), _BATCH, num_workers=os.cpu_count() or 1):
        model(_SEEN.normalized(seen, torch.float32))


def _decode(folder: Path) -> None:
    files = _Files(folder)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(files.__getitem__, range(len(files))):
            pass
