"""Units that are moved while a network computes: its own weights tell by how much, also in odd networks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dnr_bench.app.run import RunConfig, run
from dnr_bench.shapes.probe import ShapesProbe
from dnr_bench.shapes.target import hooked_network
from dnr_bench.targets import hooked
from dnr_bench.targets.hooked import HookedTarget
from dnr_bench.targets.preprocessing import Preprocessing

BuildRun = Callable[..., RunConfig]
SEEN = Preprocessing(32, 32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def images_of(n: int, side: int = 32) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (n, side, side, 3), dtype=np.uint8))


def moved(
    target: HookedTarget, images: list[np.ndarray], layer: str, shifts: np.ndarray, read: str
) -> np.ndarray:
    units = list(range(shifts.shape[1]))
    return np.concatenate(list(target.moved(images, layer, units, shifts, read)), axis=1)


def test_outputs_move_by_the_weight_of_the_unit() -> None:
    target = hooked_network("embedded:target", batch_size=16)
    probe = ShapesProbe(20).load(0)
    images = [probe.images[i] for i in range(20)]
    shifts = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    weights = target.model.fc.weight.detach().numpy()[:, :5]
    wanted = target.run(images, ["fc"])["fc"][None] + shifts.T[:, :, None] * weights.T[:, None]
    assert moved(target, images, "concepts", shifts, "fc") == pytest.approx(wanted, abs=1e-4)


class Around(nn.Module):
    """A connection around the layer, and a batch size that is taken from the input."""

    def __init__(self, reshapes: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.layer, self.head = nn.Conv2d(3, 6, 8, 8), nn.Conv2d(6, 6, 1), nn.Linear(6, 4)
        self.reshapes = reshapes

    def forward(self, images: Tensor) -> Tensor:
        embedded = self.embed(images)
        maps = self.layer(embedded) + (0 if self.reshapes else embedded)
        if self.reshapes:
            pooled = maps.permute(0, 2, 3, 1).reshape(len(images), -1, 6).mean(dim=1)
        else:
            pooled = maps.mean(dim=(2, 3))
        found: Tensor = self.head(pooled)
        return found


@pytest.mark.parametrize("reshapes", [False, True])
def test_networks_that_cannot_take_copies_are_run_once_for_each_unit(reshapes: bool) -> None:
    target = HookedTarget(Around(reshapes), SEEN, batch_size=64)
    images, shifts = images_of(4), np.random.default_rng(1).normal(size=(4, 6)).astype(np.float32)
    weights = target.model.head.weight.detach().numpy()
    wanted = target.run(images, ["head"])["head"][None] + shifts.T[:, :, None] * weights.T[:, None]
    assert moved(target, images, "layer", shifts, "head") == pytest.approx(wanted, abs=1e-5)


def test_a_batch_that_does_not_fit_into_memory_moves_the_same_images(monkeypatch: pytest.MonkeyPatch) -> None:
    target = HookedTarget(Around(False), SEEN, batch_size=8)
    images, shifts = images_of(8), np.random.default_rng(1).normal(size=(8, 2)).astype(np.float32)
    wanted = moved(target, images, "layer", shifts, "head")
    real, asked = hooked.moved_outputs, []

    def scarce(target: HookedTarget, inputs: Tensor, *rest: object) -> np.ndarray:
        asked.append(len(inputs))
        if len(inputs) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(target, inputs, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(hooked, "moved_outputs", scarce)
    assert moved(target, images, "layer", shifts, "head") == pytest.approx(wanted, abs=1e-6)
    assert max(asked) == 8


@pytest.mark.slow
def test_a_perfect_simulation_is_not_noticed_and_is_stored(small_run: BuildRun) -> None:
    words = ("method=linear_explanations", "evaluator=[simulation]", "neurons.units=[0,9,62]")
    result = run(small_run(*words, "probe.n_images=600"))
    values = {n.name: n.values for n in result.neurons}
    assert values["concepts:0"]["simulation.ablation"] > 0.9
    assert values["concepts:0"]["simulation.correlation"] > 0.95
    assert all(-1 <= v["simulation.ablation"] <= 1 for v in values.values())
    config = small_run(*words, "probe.n_images=600")
    session = config.session()
    run(config, session)
    again = small_run(
        "method=linear_explanations", "evaluator=[simulation]", "neurons.layers=[fc]", "neurons.units=[0]"
    )
    assert "simulation.ablation" not in run(again).metrics  # nothing comes after the last layer
