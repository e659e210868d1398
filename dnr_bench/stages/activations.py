"""Step 1 of the method, first half: one streaming pass of the probing set through the target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from tqdm import tqdm

from dnr_bench.data.exemplars import Activations
from dnr_bench.data.images import ProbeSet
from dnr_bench.data.neuron import Layer, Pruning
from dnr_bench.infra.digests import Key, digest
from dnr_bench.infra.source import code_of
from dnr_bench.infra.store import Store
from dnr_bench.protocols import Target

_BATCH = 256


def probe_activations(
    store: Store, target: Target, probe: ProbeSet, layers: Sequence[Layer]
) -> dict[str, Activations]:
    """Pooled activations of whole layers, for all neurons in one pass; memory is flat in the images."""
    found = _activations(store, target, probe, [(layer, {}) for layer in layers])
    return {layer.name: activations for layer, activations in zip(layers, found, strict=True)}


def pruned_activations(
    store: Store, target: Target, images: ProbeSet, layer: Layer, prunings: Sequence[Pruning]
) -> list[Activations]:
    """Those of one layer, once for each pruning; every image is loaded once for all of them."""
    passes = [{} if set(pruning) <= {layer.name} else pruning for pruning in prunings]
    found = _activations(store, target, images, [(layer, pruning) for pruning in passes])
    return [
        _zeroed(of_layer, _key(target, images, layer, pruning), pruning[layer.name])
        if set(pruning) == {layer.name}
        else of_layer
        for of_layer, pruning in zip(found, prunings, strict=True)
    ]


def _zeroed(found: Activations, key: Key, units: Sequence[int]) -> Activations:
    """The activations of a layer that is itself pruned; the network need not run for that."""
    values = np.array(found.values)
    values[:, list(units)] = 0
    return Activations(found.layer, values, digest(key))


def _activations(
    store: Store, target: Target, probe: ProbeSet, wanted: Sequence[tuple[Layer, Pruning]]
) -> list[Activations]:
    keys = [_key(target, probe, layer, pruning) for layer, pruning in wanted]

    def rows(missing: list[int], start: int) -> Iterator[list[np.ndarray]]:
        passes = _passes([(wanted[i][0].name, wanted[i][1]) for i in missing])
        n_images = len(probe.images)
        with tqdm(
            total=n_images, initial=start, desc="activations", unit="image", leave=False, disable=None
        ) as bar:
            for first in range(start, n_images, _BATCH):
                images = [probe.images[i] for i in range(first, min(first + _BATCH, n_images))]
                blocks: dict[int, np.ndarray] = {}
                for pruning, of_pass in passes:
                    outputs = target.run(images, list(of_pass.values()), pruning)
                    blocks |= {place: outputs[name] for place, name in of_pass.items()}
                bar.update(len(images))
                yield [blocks[place] for place in range(len(missing))]

    widths = [layer.units for layer, _ in wanted]
    arrays = store.fill_arrays("activations", keys, len(probe.images), widths, rows)
    return [
        Activations(layer, values, digest(key))
        for (layer, _), values, key in zip(wanted, arrays, keys, strict=True)
    ]


def _key(target: Target, probe: ProbeSet, layer: Layer, pruning: Pruning) -> Key:
    key = {
        "code": code_of(__name__, target, probe.images),
        "target": target.fingerprint,
        "probe": probe.digest,
        "layer": layer.name,
    }
    pruned = {name: sorted(units) for name, units in pruning.items() if units}
    return {**key, "pruned": pruned} if pruned else key


def _passes(wanted: Sequence[tuple[str, Pruning]]) -> list[tuple[Pruning, dict[int, str]]]:
    """The network runs once for all layers of one pruning: each with their places among what is wanted."""
    passes: list[tuple[Pruning, dict[int, str]]] = []
    for place, (name, pruning) in enumerate(wanted):
        mine = next((places for other, places in passes if other == pruning), None)
        if mine is None:
            passes.append((pruning, {place: name}))
        else:
            mine[place] = name
    return passes
