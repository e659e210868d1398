"""Networks of timm by name, with published weights or with those of a file."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from dnr_bench.infra.devices import Dtype
from dnr_bench.infra.errors import RunError, UsageError
from dnr_bench.targets.noted import noted
from dnr_bench.targets.preprocessing import Preprocessing

if TYPE_CHECKING:
    from dnr_bench.targets.hooked import HookedTarget


@noted
def timm_target(
    name: str,
    pretrained: bool,
    checkpoint: str | None,
    classes: str | None,
    pool: Literal["mean", "max"],
    tokens: Literal["class", "patches"] | None,
    device: str,
    dtype: Dtype,
    batch_size: int,
    seed: int,
) -> HookedTarget:
    """`name` as in timm.list_models (vit_small_patch16_224.augreg_in1k ...), with its own preprocessing.

    pretrained: fetch its published weights. checkpoint: a file of weights instead, whose last layer may have
    any number of units. classes: a file with the names of the last layer's units. tokens: None takes the
    class token where the network has one.
    """
    if pretrained and checkpoint is not None:
        raise UsageError(f"pretrained=true and checkpoint={checkpoint!r} are two sets of weights; choose one")
    import timm
    from timm.data.config import resolve_model_data_config

    from dnr_bench.targets.checkpoints import read_classes
    from dnr_bench.targets.hooked import HookedTarget

    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3)
        raise UsageError(f"name={name!r} is no network of timm; close are {', '.join(close) or 'none'}")
    model = _built(name, pretrained, checkpoint, seed)
    last = model.default_cfg.get("classifier")
    known = read_classes(classes, model.num_classes)
    if known and not isinstance(last, str):
        raise UsageError(f"classes={classes!r}: {name} has no single last layer whose units these could name")
    prefix = int(getattr(model, "num_prefix_tokens", 0))
    return HookedTarget(
        model,
        _preprocessing(resolve_model_data_config(model)),
        names={last: known} if known and isinstance(last, str) else None,
        pool=pool,
        tokens=tokens or ("class" if getattr(model, "cls_token", None) is not None else "patches"),
        prefix_tokens=prefix,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
    )


def _built(name: str, pretrained: bool, checkpoint: str | None, seed: int) -> Any:
    import timm
    import torch

    from dnr_bench.targets.checkpoints import load_weights, n_outputs, read_weights

    read = read_weights(checkpoint, timm.create_model(name)) if checkpoint is not None else None
    options: dict[str, Any] = {}
    if read is not None:
        last = getattr(timm.get_pretrained_cfg(name), "classifier", None)
        if isinstance(last, str):
            options["num_classes"] = n_outputs(read, last, f"checkpoint={checkpoint!r}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model = timm.create_model(name, pretrained=pretrained, **options)
        except Exception as error:  # the hub's client and its network library have no common class
            raise RunError(f"name={name!r}: {' '.join(str(error).split())}") from error
    if read is not None:
        load_weights(model, read, f"checkpoint={checkpoint!r}")
    return model


def _preprocessing(config: Mapping[str, Any]) -> Preprocessing:
    """As timm evaluates the network: resize by the crop's share, cut out the center."""
    channels, height, width = config["input_size"]
    if channels != 3 or height != width:
        raise UsageError(f"a network for {channels} channels of {height}x{width} pixels is not supported")
    resize = math.floor(height / config["crop_pct"])
    squash = config["crop_mode"] == "squash"
    return Preprocessing(
        resize, height, config["mean"], config["std"], squash=squash, interpolation=config["interpolation"]
    )
