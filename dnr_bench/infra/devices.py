"""Where models compute: devices, number formats, and which models lie in a GPU's memory.

PyTorch is imported where it is used: a run that finds everything in the store needs none of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal
from weakref import ref

from dnr_bench.infra.errors import RunError, UsageError

if TYPE_CHECKING:
    import torch

#: Number formats that models compute in.
Dtype = Literal["float32", "bfloat16", "float16"]

#: What lies on each device other than the CPU, the one used last at the end.
_present: dict[str, list[ref[Any]]] = {}


def checked_device(name: str) -> str:
    """The name of a device; one that this machine does not have raises `UsageError`."""
    if name == "cpu":
        return name
    import torch

    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"device={name!r} is unknown; use cpu, cuda or cuda:1") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"device={name!r}: there are {torch.cuda.device_count()} CUDA devices here; use cpu")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError(f"device={name!r} does not exist here; use cpu")
    return name


def is_cuda(device: str) -> bool:
    """Whether a device is a GPU of NVIDIA's or AMD's."""
    return device.partition(":")[0] == "cuda"


def stacked(inputs: Sequence[torch.Tensor], device: str) -> torch.Tensor:
    """A batch of inputs of one shape; for a GPU in memory from which it copies by itself."""
    import torch

    batch = torch.stack(list(inputs))
    return batch.pin_memory() if is_cuda(device) else batch


def torch_dtype(name: Dtype) -> torch.dtype:
    """PyTorch's own object for a number format."""
    import torch

    found: torch.dtype = getattr(torch, name)
    return found


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether PyTorch says with this error that a device's memory does not suffice."""
    return type(error).__name__ == "OutOfMemoryError"


def take_turn(model: Any, device: str) -> None:
    """Bring a model (or a pipeline of models) to its device.

    Models stay there while memory suffices, so that stages can alternate in chunks. Where it does not, the
    others go back to main memory.
    """
    if device == "cpu":
        return
    present = [other for other in _present.get(device, []) if other() is not None]
    if any(other() is model for other in present):
        _present[device] = [other for other in present if other() is not model] + [ref(model)]
        return
    _present[device] = present
    try:
        model.to(device)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        make_room(device, staying=0)
        _moved(model, device)
    _present[device].append(ref(model))


def _moved(model: Any, device: str) -> None:
    """Bring a model to a device that holds no other."""
    try:
        model.to(device)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise RunError(
            f"the memory of {device} does not even hold this model; dtype=bfloat16 takes half"
        ) from error


def make_room(device: str, staying: int = 1) -> bool:
    """Send models back to main memory but for those used last; False where there is none to send."""
    import torch

    present = [model for other in _present.get(device, []) if (model := other()) is not None]
    leaving = present[: max(len(present) - staying, 0)]
    for model in leaving:
        model.to("cpu")
    _present[device] = [ref(model) for model in present[len(leaving) :]]
    if is_cuda(device) and leaving:
        torch.cuda.empty_cache()
    return bool(leaving)
