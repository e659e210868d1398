"""Step 1 of the method, first half: one streaming pass of the probing set through the target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from tqdm import tqdm

from dnr_bench.parts import Target
from dnr_bench.store import Key, Store, digest
from dnr_bench.types import Activations, Layer, ProbeSet

_BATCH = 256


def probe_activations(
    store: Store, target: Target, probe: ProbeSet, layers: Sequence[Layer]
) -> dict[str, Activations]:
    """Pooled activations of whole layers, for all neurons in one pass; memory is flat in the images."""
    keys: list[Key] = [
        {"target": target.fingerprint, "probe": probe.digest, "layer": layer.name} for layer in layers
    ]

    def rows(missing: list[int], start: int) -> Iterator[list[np.ndarray]]:
        names = [layers[i].name for i in missing]
        n_images = len(probe.images)
        with tqdm(
            total=n_images, initial=start, desc="activations", unit="image", leave=False, disable=None
        ) as bar:
            for first in range(start, n_images, _BATCH):
                images = [probe.images[i] for i in range(first, min(first + _BATCH, n_images))]
                outputs = target.run(images, names)
                bar.update(len(images))
                yield [outputs[name] for name in names]

    widths = [layer.units for layer in layers]
    arrays = store.fill_arrays("activations", keys, len(probe.images), widths, rows)
    return {
        layer.name: Activations(layer, values, digest(key))
        for layer, values, key in zip(layers, arrays, keys, strict=True)
    }
