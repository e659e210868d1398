"""Classifiers of torchvision by name, with published weights or with those of a file."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dnr_bench.infra.devices import Dtype
from dnr_bench.infra.errors import RunError, UsageError
from dnr_bench.targets.noted import noted
from dnr_bench.targets.preprocessing import Preprocessing

if TYPE_CHECKING:
    from torch import nn

    from dnr_bench.targets.hooked import HookedTarget


@noted
def torchvision_target(
    name: str,
    weights: str | None,
    checkpoint: str | None,
    classes: str | None,
    pool: Literal["mean", "max"],
    tokens: Literal["class", "patches"],
    device: str,
    dtype: Dtype,
    batch_size: int,
    seed: int,
) -> HookedTarget:
    """`name` as in torchvision.models (resnet50, vit_b_16 ...), with the preprocessing of its weights.

    weights: DEFAULT, another of the network's (IMAGENET1K_V1), or None for an untrained network by `seed`.
    checkpoint: a file of weights instead, whose last layer may have any number of units; the preprocessing
    stays that of `weights`. classes: a file with the names of the last layer's units, one per line;
    weights of torchvision know theirs.
    """
    _check_files(checkpoint=checkpoint, classes=classes)
    from torchvision import models

    from dnr_bench.targets.checkpoints import last_layer, load_weights, n_outputs, read_classes, read_weights
    from dnr_bench.targets.hooked import HookedTarget

    if name not in models.list_models(module=models):
        close = difflib.get_close_matches(name, models.list_models(module=models), n=3)
        raise UsageError(
            f"name={name!r} is no classifier of torchvision; close are {', '.join(close) or 'none'}"
        )
    published = _weights(name, weights)
    if checkpoint is None:
        model, names = _built(name, published, seed), published.meta["categories"] if published else None
    else:
        untrained = models.get_model(name, weights=None)
        read = read_weights(checkpoint, untrained)
        layer, _ = last_layer(untrained)
        where = f"checkpoint={checkpoint!r}"
        model, names = models.get_model(name, weights=None, num_classes=n_outputs(read, layer, where)), None
        load_weights(model, read, where)
    layer, units = last_layer(model)
    names = read_classes(classes, units) or names
    return HookedTarget(
        model,
        _preprocessing(published or models.get_model_weights(name).DEFAULT),
        names={layer: names} if names else None,
        pool=pool,
        tokens=tokens,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
    )


def _check_files(**files: str | None) -> None:
    """Raises `UsageError` for an argument that names no file; None names none that is needed."""
    for name, path in files.items():
        if path is not None and not Path(path).is_file():
            raise UsageError(f"{name}={path!r} is no file")


def _weights(name: str, weights: str | None) -> Any:
    from torchvision import models

    known = models.get_model_weights(name)
    if weights is None:
        return None
    if weights not in known.__members__:
        raise UsageError(f"weights={weights!r}: {name} has {', '.join(known.__members__)}, or null for none")
    return known[weights]


def _built(name: str, published: Any, seed: int) -> nn.Module:
    import torch
    from torchvision import models

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model: nn.Module = models.get_model(name, weights=published)
        except (OSError, RuntimeError) as error:  # urllib's errors, and a download that was cut off
            raise RunError(
                f"weights={published.name!r} of {name} could not be had: {error}; a file of yours works as"
                " well: checkpoint=PATH"
            ) from error
    return model


def _preprocessing(published: Any) -> Preprocessing:
    """That of torchvision's weights."""
    preset = published.transforms()
    sizes: Sequence[int] = (*preset.resize_size, *preset.crop_size)
    if len(sizes) != 2:
        raise UsageError(
            f"weights={published.name!r} resize images in a way that is not known here: {preset}"
        )
    return Preprocessing(
        sizes[0], sizes[1], preset.mean, preset.std, interpolation=preset.interpolation.value
    )
