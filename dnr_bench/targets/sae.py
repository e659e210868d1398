"""Latents of a sparse autoencoder on a layer of any network, as neurons (Bricken et al. 2023).

An autoencoder learned to write each activation vector of a layer (each place of a map, each token) as a
sparse sum of directions. Its codes stand beside the network's own layers as the layer `sae`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dnr_bench.infra.digests import content_digest
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.ranges import check_range
from dnr_bench.infra.shipped import embedded_path
from dnr_bench.infra.store import Store
from dnr_bench.targets.noted import NotedTarget

if TYPE_CHECKING:
    from dnr_bench.targets.hooked import HookedTarget

Activation = Literal["relu", "topk", "jumprelu"]

#: In a folder, the file of weights.
FILE = "sae.safetensors"


def sae_target(
    base: NotedTarget,
    checkpoint: str,
    layer: str,
    activation: Activation,
    k: int,
    subtract_bias: bool,
    store: Store,
) -> NotedTarget:
    """`base` with the latents of an autoencoder on one of its layers.

    Args:
        base: a network that is loaded when it is to run; pooling, device and batches are its own.
        checkpoint: a .safetensors file, a folder with sae.safetensors, or an embedded one. Arrays are named
            as in SAELens (W_enc, b_enc, W_dec, b_dec, threshold), dictionary_learning (encoder.weight,
            encoder.bias, decoder.weight, bias) or OpenAI's code (latent_bias, pre_bias).
        layer: the layer whose vectors it was trained on.
        activation, k, subtract_bias: see `Latents`.
        store: where the facts about the network are noted.

    Raises:
        UsageError: the layer is none of the network's, or the weights do not fit it.
    """
    check_range(1, 1_000_000, k=k)
    path = _weights_file(checkpoint)
    known = {found.name: found for found in base.layers()}
    if layer not in known:
        raise UsageError(f"layer={layer!r} is no layer of the network; it has {', '.join(known)}")
    units = known[layer].units

    def build(**_: object) -> HookedTarget:
        from dnr_bench.targets.latents import Latents, read_sae, with_latents

        weights = read_sae(path, units, activation)
        return with_latents(base.hooked, layer, Latents(weights, activation, k, subtract_bias))

    settings = {
        "base": base.fingerprint,
        "weights": content_digest(path),
        "layer": layer,
        "activation": activation,
        "k": k,
        "subtract_bias": subtract_bias,
    }
    return NotedTarget(build, settings, store)


def _weights_file(checkpoint: str) -> Path:
    path = embedded_path(checkpoint)
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise UsageError(f"checkpoint={checkpoint!r}: there is no file {file}")
    return file
