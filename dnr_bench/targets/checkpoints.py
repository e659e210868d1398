"""Weights of networks from files, without pickle, in the layouts that people publish them in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.text_files import read_text, spoken_name

#: Under which weights stand in checkpoints that hold more than weights.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "weights")
_DEEPEST = 10
#: Types of quantized weights, which a network of floats would take for its own.
_SMALL = (torch.int8, torch.uint8, torch.int16, torch.bool)
#: What training wrappers put before the names of weights.
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.")


def read_weights(path: str, model: nn.Module) -> dict[str, Tensor]:
    """The weights of a .safetensors file, or of one that torch.save wrote (read with weights_only).

    Weights under "state_dict" and the like are found there, and prefixes of training wrappers are left out
    where the network, or one of its kind, has no such names.
    """
    file = Path(path)
    if not file.is_file():
        raise UsageError(f"checkpoint={path!r} is no file")
    try:
        if file.suffix == ".safetensors":
            return _floating(dict(load_file(file)), path)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except UsageError:
        raise
    except Exception as error:  # whatever a file may hold
        reason = " ".join(str(error).split())
        raise UsageError(f"checkpoint={path!r} cannot be read as weights alone: {reason[:300]}") from error
    for _ in range(_DEEPEST):  # a file can hold itself
        inner = next((k for k in _WRAPPERS if isinstance(content, Mapping) and _holds(content, k)), None)
        if inner is None:
            break
        content = content[inner]
    weights = (
        {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
        if isinstance(content, Mapping)
        else {}
    )
    if not weights:
        raise UsageError(f"checkpoint={path!r} holds no weights by name (a state dict)")
    own = model.state_dict().keys()
    while not own & weights.keys() and (prefix := _prefix(weights)):
        weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    return _floating(weights, path)


def _floating(weights: dict[str, Tensor], path: str) -> dict[str, Tensor]:
    """The weights, if none are complex or quantized: those would be cut or taken for floats silently."""
    other = next((n for n, value in weights.items() if value.is_complex() or value.dtype in _SMALL), None)
    if other is not None:
        raise UsageError(f"checkpoint={path!r}: {other} holds numbers of type {weights[other].dtype}")
    return weights


def _prefix(names: Iterable[str]) -> str | None:
    """The prefix of all names, if it is one that training wrappers add."""
    listed = list(names)
    return next((p for p in _PREFIXES if all(name.startswith(p) for name in listed)), None)


def _holds(content: Mapping[str, object], key: str) -> bool:
    return isinstance(content.get(key), Mapping)


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Put weights into a network; names or shapes that do not fit raise `UsageError`."""
    own = model.state_dict()
    counters = {name for name in own if name.endswith("num_batches_tracked")}
    missing = sorted(own.keys() - weights.keys() - counters)
    unknown = sorted(weights.keys() - own.keys())
    other = sorted(n for n in own.keys() & weights.keys() if own[n].shape != weights[n].shape)
    if missing or unknown or other:
        found = [
            f"{len(names)} {what} (such as {names[0]})"
            for names, what in ((missing, "missing"), (unknown, "unknown"), (other, "of another shape"))
            if names
        ]
        raise UsageError(f"{where} does not fit the network {type(model).__name__}: {', '.join(found)}")
    try:
        model.load_state_dict(dict(weights), strict=not counters - weights.keys())
    except RuntimeError as error:  # sparse ones, or such without content
        reason = " ".join(str(error).split())
        raise UsageError(f"{where} cannot be put into {type(model).__name__}: {reason[:300]}") from error


def n_outputs(weights: Mapping[str, Tensor], layer: str, where: str) -> int:
    """How many units the last layer has in a checkpoint."""
    found = weights.get(f"{layer}.weight")
    if found is None:
        raise UsageError(f"{where} has no weights of the last layer {layer!r}")
    return int(found.shape[0])


def last_layer(model: nn.Module) -> tuple[str, int]:
    """The name of the last layer of a classifier (linear or, as in SqueezeNet, a convolution), its units."""
    kinds = (nn.Linear, nn.Conv2d)
    found = [(name, module) for name, module in model.named_modules() if isinstance(module, kinds)]
    if not found:
        raise UsageError(f"the network {type(model).__name__} has no layer to take for its classifier")
    name, last = found[-1]
    return name, last.out_features if isinstance(last, nn.Linear) else last.out_channels


def read_classes(path: str | None, n: int) -> Sequence[str] | None:
    """The names of a classifier's units from a file, one per line in order; None where no file is given.

    Lines like those of Places365's categories ("/a/airfield 0", numbers in order) are read, too.
    """
    if path is None:
        return None
    lines = [line.strip() for line in read_text(path, "classes").splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    if lines and all(
        line.rpartition(" ")[2] == str(i) and line.startswith("/") for i, line in enumerate(lines)
    ):
        lines = [spoken_name(line.rpartition(" ")[0]) for line in lines]
    if len(lines) != n or "" in lines:
        raise UsageError(f"classes={path!r} must name {n} classes, one per line; it has {len(lines)} lines")
    return lines
