"""The training loop that all embedded models share: AdamW, one learning-rate cycle, resumable."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from dnr_bench.infra.files import writing


def fit(
    model: nn.Module,
    loss_of: Callable[[np.ndarray], Tensor],
    n_items: int,
    checkpoint: Path,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float = 0.01,
    after_step: Callable[[], None] = lambda: None,
    average: float = 0.0,
    start: Path | None = None,
) -> None:
    """Minimise `loss_of(indices)` over random batches of `n_items`, in bfloat16 where it is safe.

    The state is written to `checkpoint` every 250 steps and at the end, and training goes on from there.
    At the end the model has the exponential moving average of its weights, of which each step keeps the
    share `average` (0: the last weights). `start` is the checkpoint of an earlier training whose weights
    this one begins with.
    """
    if start is not None:
        model.load_state_dict(torch.load(start, weights_only=True)["model"], strict=False)
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, steps, pct_start=0.1)
    moving = get_ema_multi_avg_fn(average)  # type: ignore[no-untyped-call]
    averaged = AveragedModel(model, multi_avg_fn=moving)
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule, "averaged": averaged}
    first = _restore(checkpoint, parts)
    model.train()
    mean = None
    for step in (bar := tqdm(range(first, steps), initial=first, total=steps, mininterval=5)):
        indices = np.random.default_rng([7, step]).integers(n_items, size=batch_size)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(indices)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        after_step()
        averaged.update_parameters(model)
        mean = float(loss.detach()) if mean is None else 0.98 * mean + 0.02 * float(loss.detach())
        bar.set_postfix(loss=f"{mean:.4f}")
        if step + 1 == steps:
            model.load_state_dict(averaged.module.state_dict())
        if (step + 1) % 250 == 0 or step + 1 == steps:
            _keep(checkpoint, parts, step + 1)
    model.eval()


def half_weights(model: nn.Module) -> dict[str, Tensor]:
    """The state that a checkpoint keeps: floating-point weights in float16."""
    return {
        name: value.half().contiguous() if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }


def _keep(path: Path, parts: dict[str, Any], step: int) -> None:
    with writing(path) as partial:
        torch.save({"step": step} | {name: part.state_dict() for name, part in parts.items()}, partial)


def _restore(path: Path, parts: dict[str, Any]) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return int(state["step"])
