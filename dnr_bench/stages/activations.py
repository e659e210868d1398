"""Step 1 of the method, first half: one streaming pass of the probing set through the target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from tqdm import tqdm

from dnr_bench.data.exemplars import Activations
from dnr_bench.data.images import ProbeSet
from dnr_bench.data.neuron import Layer, Pruning
from dnr_bench.infra.digests import Key, digest
from dnr_bench.infra.source import code_of
from dnr_bench.infra.store import Store
from dnr_bench.infra.work import Work
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

    def work(missing: list[int]) -> Work:
        passes = [(wanted[i][0].name, wanted[i][1]) for i in missing]
        return Work("target", target, partial(_blocks, probe, passes))

    widths = [layer.units for layer, _ in wanted]
    arrays = store.fill_arrays("activations", keys, len(probe.images), widths, work)
    return [
        Activations(layer, values, digest(key))
        for (layer, _), values, key in zip(wanted, arrays, keys, strict=True)
    ]


def _blocks(
    probe: ProbeSet, passes: Sequence[tuple[str, Pruning]], target: Target, ranges: Sequence[range]
) -> Iterator[dict[str, np.ndarray]]:
    """Of each range of images the rows of all arrays, from one pass."""
    layers = list(dict.fromkeys(layer for layer, _ in passes))
    prunings = _distinct([pruning for _, pruning in passes])
    places = [(prunings.index(pruning), layer) for layer, pruning in passes]
    for rows in ranges:
        found: list[list[np.ndarray]] = [[] for _ in passes]
        with tqdm(total=len(rows), desc="images", leave=False, disable=None) as bar:
            for outputs in target.stream(probe.images[rows.start : rows.stop], layers, prunings):
                for of_array, (pruning, layer) in zip(found, places, strict=True):
                    of_array.append(outputs[pruning][layer])
                bar.update(len(found[0][-1]))
        yield {str(place): np.concatenate(of_array) for place, of_array in enumerate(found)}


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
