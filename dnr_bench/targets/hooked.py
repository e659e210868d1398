"""Any PyTorch image model as a target: activations are read by hooks on its named modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from dnr_bench.data.images import Image
from dnr_bench.data.neuron import Layer, Pruning
from dnr_bench.infra.batches import Batches
from dnr_bench.infra.devices import Dtype, checked_device, is_cuda, stacked, take_turn, torch_dtype
from dnr_bench.infra.digests import digest
from dnr_bench.infra.errors import RunError, UsageError
from dnr_bench.infra.fingerprints import model_digest
from dnr_bench.infra.ranges import check_range
from dnr_bench.targets.preprocessing import Preprocessing


class HookedTarget:
    """Pools feature maps by spatial mean or maximum, token sequences by class token or patch mean.

    `names` gives the true names of a layer's units where they are known. `prefix_tokens`: how many tokens of
    a sequence stand before those of patches (class token, registers); where there is none, `tokens` must be
    patches. Feature maps may have their units first (convolutions) or last (Swin). `identity`: what
    else the network's results depend on, beside its structure and weights.
    """

    def __init__(
        self,
        model: nn.Module,
        preprocessing: Preprocessing,
        *,
        names: Mapping[str, Sequence[str]] | None = None,
        pool: Literal["mean", "max"] = "mean",
        tokens: Literal["class", "patches"] = "class",
        prefix_tokens: int = 1,
        identity: Mapping[str, Any] | None = None,
        device: str = "cpu",
        dtype: Dtype = "float32",
        batch_size: int = 128,
    ) -> None:
        check_range(0, 1000, prefix_tokens=prefix_tokens)
        if tokens == "class" and not prefix_tokens:
            raise UsageError("tokens='class', but this network has no class token; use tokens=patches")
        self.device, self.dtype = checked_device(device), torch_dtype(dtype)
        self.model = model.eval().requires_grad_(False)
        self.preprocessing = preprocessing
        self.names = dict(names or {})
        self.pool, self.tokens, self.prefix_tokens = pool, tokens, prefix_tokens
        self.batches = Batches(batch_size, self.device)
        self.fingerprint = digest(
            {
                "model": model_digest(model),
                "preprocessing": preprocessing.key,
                "pool": pool,
                "tokens": tokens,
                "prefix_tokens": prefix_tokens,
                "identity": dict(identity or {}),
                "dtype": dtype,
                "torch": torch.__version__,
            }
        )
        self.model.to(self.dtype)
        if is_cuda(self.device):  # what its convolutions are fastest with
            self.model.to(memory_format=torch.channels_last)

    def layers(self) -> list[Layer]:
        """Every named module whose output is one tensor per image."""
        return list(self._layers.values())

    def unit_names(self, layer: str) -> Sequence[str] | None:
        """The true names of a layer's units, where they are known."""
        return self.names.get(layer)

    def seen_box(self, height: int, width: int) -> tuple[float, float, float, float]:
        """The part of an image of this size that reaches the network: left, top, right, bottom."""
        return self.preprocessing.seen_box(height, width)

    def run(self, images: Sequence[Image], layers: Sequence[str]) -> dict[str, Float[np.ndarray, "images _"]]:
        """Pooled activations [images, units] of each layer, all from one forward pass per batch."""
        parts = [found for (found,) in self.stream(images, layers)]
        return {
            layer: np.concatenate([part[layer] for part in parts])
            if parts
            else np.empty((0, self._layers[layer].units), np.float32)
            for layer in layers
        }

    def stream(
        self, images: Sequence[Image], layers: Sequence[str], prunings: Sequence[Pruning] = ({},)
    ) -> Iterator[list[dict[str, Float[np.ndarray, "batch _"]]]]:
        """Of each batch the same for each pruning; images are decoded and resized ahead of the network."""

        def work(seen: Tensor) -> list[dict[str, np.ndarray]]:
            inputs = self._inputs(seen)
            return [self._pooled_outputs(inputs, layers, pruning) for pruning in prunings]

        return self.batches.over_prepared(images, self.preprocessing.seen, self._collated, work)

    def maps(
        self, images: Sequence[Image], layer: str, pairs: Sequence[tuple[int, int]]
    ) -> list[Float[np.ndarray, "map_height map_width"]]:
        """The map of each (image index, unit); every image is run once, whatever the number of its units."""
        wanted: dict[int, list[int]] = {}
        for position, (image, _) in enumerate(pairs):
            wanted.setdefault(image, []).append(position)
        result: list[np.ndarray] = [np.empty((0, 0), np.float32)] * len(pairs)
        in_order = sorted(wanted)
        outputs = self.batches.over_prepared(
            in_order,
            lambda image: self.preprocessing.seen(images[image]),
            self._collated,
            lambda seen: self.forward(self._inputs(seen), [layer], {}, torch.Tensor.clone)[layer],
        )
        rest = iter(in_order)
        for output in outputs:
            _check_finite(layer, output)
            for row, image in zip(output, rest, strict=False):
                of_image = row[[pairs[position][1] for position in wanted[image]]].float().cpu().numpy()
                for position, found in zip(wanted[image], of_image, strict=True):
                    result[position] = found
        return result

    def moved(
        self,
        images: Sequence[Image],
        layer: str,
        units: Sequence[int],
        shifts: Float[np.ndarray, "images units"],
        read: str,
    ) -> Iterator[Float[np.ndarray, "units batch outputs"]]:
        """Of each batch the pooled output of the layer `read` when one unit after the other is moved."""
        first = 0

        def work(seen: Tensor) -> np.ndarray:
            nonlocal first
            inputs = self._inputs(seen)
            steps = torch.from_numpy(shifts[first : first + len(seen)]).to(inputs)
            found = moved_outputs(self, inputs, layer, units, steps, read)
            first += len(seen)  # not before: a batch too large for memory comes again in parts
            return found

        return self.batches.over_prepared(images, self.preprocessing.seen, self._collated, work)

    @cached_property
    def _layers(self) -> dict[str, Layer]:
        """Found by running the network once on noise, with a hook on every module."""
        size = self.preprocessing.crop
        noise = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
        found = {}
        inputs = self._inputs(self._collated([self.preprocessing.seen(image) for image in noise]))
        names = [name for name, _ in self.model.named_modules() if name]
        outputs = self.forward(inputs, names, {}, lambda output: output)
        for name, output in outputs.items():
            if output.ndim in (2, 3, 4) and len(output) == len(noise):
                units = output.shape[1] if output.ndim != 3 else output.shape[2]
                spatial = output.ndim == 4 and output.shape[2] * output.shape[3] > 1
                found[name] = Layer(name, units, spatial)
        return found

    def _collated(self, seen: Sequence[Tensor]) -> Tensor:
        return stacked(seen, self.device)

    def _inputs(self, seen: Tensor) -> Tensor:
        return self.preprocessing.normalized(seen.to(self.device, non_blocking=True), self.dtype)

    def _pooled_outputs(
        self, inputs: Tensor, layers: Sequence[str], pruned: Pruning
    ) -> dict[str, np.ndarray]:
        outputs = self.forward(inputs, layers, pruned, self.pooled)
        for name, output in outputs.items():
            _check_finite(name, output)
        return {layer: output.cpu().numpy() for layer, output in outputs.items()}

    @torch.inference_mode()
    def forward(
        self, inputs: Tensor, layers: Sequence[str], pruned: Pruning, read: Callable[[Tensor], Tensor]
    ) -> dict[str, Tensor]:
        """What is read of each layer's output for one batch; feature maps have their units first."""
        take_turn(self.model, self.device)
        with self._hooks(layers, pruned, read) as outputs:
            self.model(inputs)
        return outputs

    @contextmanager
    def _hooks(
        self, layers: Sequence[str], pruned: Pruning, read: Callable[[Tensor], Tensor]
    ) -> Iterator[dict[str, Tensor]]:
        """Prunes first: a layer that is both pruned and read is read as the network goes on with it.

        `read` takes what it needs at once, as a later ReLU may work in place.
        """
        modules = dict(self.model.named_modules())
        outputs: dict[str, Tensor] = {}

        def keep(name: str, output: object) -> None:
            if isinstance(output, Tensor) and output.is_floating_point():
                outputs[name] = read(output.movedim(units_at(output), 1) if output.ndim == 4 else output)

        handles = [
            modules[layer].register_forward_hook(
                lambda _m, _i, output, units=list(units): _without(output, units)
            )
            for layer, units in pruned.items()
        ]
        handles += [
            modules[layer].register_forward_hook(lambda _m, _i, output, layer=layer: keep(layer, output))
            for layer in layers
        ]
        try:
            yield outputs
        finally:
            for handle in handles:
                handle.remove()

    def pooled(self, output: Tensor) -> Tensor:
        """One value per unit, in float32 whatever the network computes in."""
        return _one_per_unit(output, self.pool, self.prefix_tokens if self.tokens == "patches" else None)


def _one_per_unit(output: Tensor, pool: Literal["mean", "max"], first_patch: int | None) -> Tensor:
    """One value per unit, in float32 whatever the network computes in; None: of tokens the class token's."""
    if output.ndim == 4 and pool == "mean":
        return output.mean(dim=(2, 3), dtype=torch.float32)
    if output.ndim == 4:
        return output.amax(dim=(2, 3)).float()
    if output.ndim == 3 and first_patch is not None:
        return output[:, first_patch:].mean(dim=1, dtype=torch.float32)
    found = output[:, 0] if output.ndim == 3 else output
    return found.to(torch.float32, copy=True)


def _check_finite(layer: str, output: Tensor) -> None:
    if not torch.isfinite(output).all():
        raise RunError(f"layer {layer!r} of the target gave values that are not finite")


def untrain(model: nn.Module, seed: int) -> None:
    """Give every layer of a network the weights that it would have before any training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in model.modules():
            reset = getattr(module, "reset_parameters", None)
            if reset is not None:
                reset()


def moved_outputs(
    target: HookedTarget, inputs: Tensor, layer: str, units: Sequence[int], steps: Tensor, read: str
) -> Float[np.ndarray, "units batch outputs"]:
    """The pooled outputs of a batch when units are moved by `steps` [images, units].

    What comes after the layer sees a copy of the batch for each of several units. A network with a connection
    around the layer cannot go on with such a batch, and is run once for each unit.
    """
    found: list[np.ndarray] = []
    at_once = max(target.batches.size // len(inputs), 1)
    while len(found) < len(units):
        places = list(range(len(found), min(len(found) + at_once, len(units))))
        tokens = slice(target.prefix_tokens, None) if target.tokens == "patches" else slice(1)
        move = partial(_moved, units=[units[i] for i in places], steps=steps[:, places], tokens=tokens)
        hook = dict(target.model.named_modules())[layer].register_forward_hook(move)
        try:
            outputs = target.forward(inputs, [read], {}, target.pooled)[read].cpu().numpy()
        except RuntimeError:
            if len(places) == 1:
                raise
            outputs = np.empty((0, 0))
        finally:
            hook.remove()
        if len(outputs) != len(places) * len(inputs):
            at_once = 1
            continue
        found += list(outputs.reshape(len(places), len(inputs), -1))
    return np.stack(found)


def _moved(
    _module: nn.Module,
    _inputs: object,
    output: Tensor,
    *,
    units: Sequence[int],
    steps: Tensor,
    tokens: slice,
) -> Tensor:
    """A copy of a layer's output for each unit, in which it is higher by its step wherever that counts."""
    found = output.repeat(len(units), *[1] * (output.ndim - 1))
    first = found.movedim(units_at(output), 1)
    by_unit = first.view(len(units), len(output), *first.shape[1:])
    for copy, unit, step in zip(by_unit, units, steps.T, strict=True):
        at = copy[:, unit]
        if output.ndim == 3:
            at[:, tokens] += step[:, None]
        else:
            at += step.reshape(-1, *[1] * (at.ndim - 1))
    return found


def _without(output: Tensor, units: Sequence[int]) -> Tensor:
    """A layer's output with some units at 0."""
    kept = output.clone()
    kept.movedim(units_at(output), 0)[units] = 0
    return kept


def units_at(output: Tensor) -> int:
    """The dimension of a layer's units: the last one of tokens, and of feature maps that end with them.

    Inputs are square, so that the two equal sides of a map are its height and width.
    """
    last = output.ndim == 3 or (output.ndim == 4 and output.shape[1] == output.shape[2] != output.shape[3])
    return output.ndim - 1 if last else 1
