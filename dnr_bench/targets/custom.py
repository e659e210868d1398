"""Any network of the user's: a function of theirs that builds it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dnr_bench.infra.devices import Dtype
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.source import code_of
from dnr_bench.targets.preprocessing import Preprocessing

if TYPE_CHECKING:
    from torch import nn

    from dnr_bench.targets.hooked import HookedTarget


def custom_target(
    factory: str,
    arguments: Mapping[str, Any] | None,
    checkpoint: str | None,
    classes: str | None,
    resize: int,
    crop: int,
    mean: Sequence[float],
    std: Sequence[float],
    squash: bool,
    interpolation: Literal["nearest", "bilinear", "bicubic"],
    pool: Literal["mean", "max"],
    tokens: Literal["class", "patches"],
    prefix_tokens: int,
    device: str,
    dtype: Dtype,
    batch_size: int,
    seed: int,
) -> HookedTarget:
    """`factory` is "module:function", looked for in the working directory, too; it returns a torch Module.

    The module takes a batch of images, normalized as `resize` to `interpolation` say, and every submodule
    whose output is one tensor is a layer. checkpoint: a file of weights to put into it. seed: of weights that
    the function draws at random.
    """
    preprocessing = Preprocessing(resize, crop, mean, std, squash, interpolation)
    import torch

    from dnr_bench.targets.checkpoints import last_layer, load_weights, read_classes, read_weights
    from dnr_bench.targets.hooked import HookedTarget

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _made(factory, arguments or {})
    if checkpoint is not None:
        load_weights(model, read_weights(checkpoint, model), f"checkpoint={checkpoint!r}")
    names = None
    if classes is not None:
        layer, units = last_layer(model)
        names = {layer: read_classes(classes, units) or ()}
    return HookedTarget(
        model,
        preprocessing,
        names=names,
        pool=pool,
        tokens=tokens,
        prefix_tokens=prefix_tokens,
        identity={
            "factory": factory,
            "arguments": dict(arguments or {}),
            "code": code_of(factory.partition(":")[0]),
        },
        device=device,
        dtype=dtype,
        batch_size=batch_size,
    )


def _made(factory: str, arguments: Mapping[str, Any]) -> nn.Module:
    from torch import nn

    module, colon, function = factory.partition(":")
    if not (module and colon and function):
        raise UsageError(f"factory={factory!r} must be module:function")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        build = getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"factory={factory!r}: {error}") from error
    model = build(**arguments)
    if not isinstance(model, nn.Module):
        raise UsageError(f"factory={factory!r} returned {type(model).__name__}, not a torch.nn.Module")
    return model
