"""Where models compute: devices, number formats, batch sizes, and whose turn it is in a GPU's memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeVar
from weakref import ref

import torch

from dnr_bench.infra.errors import RunError, UsageError
from dnr_bench.infra.ranges import check_range

#: Number formats that models compute in.
Dtype = Literal["float32", "bfloat16", "float16"]

T = TypeVar("T")
R = TypeVar("R")
_log = logging.getLogger(__name__)

#: Whose turn it is on each device other than the CPU; only one model lies there at a time.
_present: dict[torch.device, ref[Any]] = {}


def checked_device(name: str) -> torch.device:
    """The device of this name; one that this machine does not have raises `UsageError`."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"device={name!r} is unknown; use cpu, cuda or cuda:1") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"device={name!r}: there are {torch.cuda.device_count()} CUDA devices here; use cpu")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError(f"device={name!r} does not exist here; use cpu")
    return device


def torch_dtype(name: Dtype) -> torch.dtype:
    """PyTorch's own object for a number format."""
    found: torch.dtype = getattr(torch, name)
    return found


def take_turn(model: Any, device: torch.device) -> None:
    """Bring a model (or a pipeline of models) to its device; what was there goes back to main memory.

    Stages of a run use one large model after the other. Each is loaded from disk once, and no two need
    the GPU's memory at a time.
    """
    if device.type == "cpu":
        return
    before = _present.get(device, lambda: None)()
    if before is model:
        return
    _present.pop(device, None)  # nobody is there, should the next line fail
    if before is not None:
        before.to("cpu")
        torch.cuda.empty_cache()
    model.to(device)
    _present[device] = ref(model)


class Batches:
    """Cuts work into batches of `size`, which is halved for good where memory does not suffice."""

    def __init__(self, size: int) -> None:
        check_range(1, 65536, batch_size=size)
        self.size = size

    def over(self, items: Sequence[T], work: Callable[[Sequence[T]], R]) -> Iterator[R]:
        """The result of `work` for each batch, in order."""
        start = 0
        while start < len(items):
            block = items[start : start + self.size]
            result = self._tried(work, block)
            if result:
                yield result[0]
                start += len(block)

    def _tried(self, work: Callable[[Sequence[T]], R], block: Sequence[T]) -> tuple[R] | tuple[()]:
        """The result alone, or nothing where the batch was too large and a smaller one may do."""
        try:
            return (work(block),)
        except torch.OutOfMemoryError as error:
            if self.size == 1:
                raise RunError(
                    "the device's memory does not even suffice for a batch of one; dtype=bfloat16 takes half,"
                    " device=cpu uses the main memory"
                ) from error
        # outside of the handler, whose traceback would hold on to what fills the memory
        before, self.size = self.size, self.size // 2  # some fill a batch up, however few items it has
        torch.cuda.empty_cache()
        _log.warning("out of memory with a batch of %d: going on with %d", before, self.size)
        return ()
