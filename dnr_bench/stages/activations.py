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


def probe_activations(
    store: Store, target: Target, probe: ProbeSet, layers: Sequence[Layer]
) -> dict[str, Activations]:
    """Pooled activations of whole layers, for all neurons in one pass; memory is flat in the images."""
    found = _activations(store, target, probe, [(layer, {}) for layer in layers])
    return {layer.name: activations for layer, activations in zip(layers, found, strict=True)}


def pruned_activations(
    store: Store, target: Target, images: ProbeSet, layer: Layer, prunings: Sequence[Pruning]
) -> list[Activations]:
    """Those of one layer, once for each pruning; every image is decoded once for all of them."""
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
        layers = list(dict.fromkeys(wanted[i][0].name for i in missing))
        prunings = _distinct([wanted[i][1] for i in missing])
        places = [(prunings.index(wanted[i][1]), wanted[i][0].name) for i in missing]
        n_images = len(probe.images)
        with tqdm(
            total=n_images, initial=start, desc="activations", unit="image", leave=False, disable=None
        ) as bar:
            for outputs in target.stream(probe.images[start:], layers, prunings):
                blocks = [outputs[pruning][name] for pruning, name in places]
                bar.update(len(blocks[0]))
                yield blocks

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


def _distinct(prunings: Sequence[Pruning]) -> list[Pruning]:
    found: list[Pruning] = []
    for pruning in prunings:
        if pruning not in found:
            found.append(pruning)
    return found
