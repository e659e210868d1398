"""The codes of a sparse autoencoder beside the layers of a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from dnr_bench.infra.devices import Dtype
from dnr_bench.infra.errors import UsageError
from dnr_bench.targets.hooked import HookedTarget, units_at
from dnr_bench.targets.sae import Activation

#: The layer of latents.
SAE = "sae"
#: What files of weights call the same thing, and whether it stands there transposed. The first names are
#: those of SAELens, then of dictionary_learning, and of OpenAI's autoencoders.
_NAMES: Mapping[str, Mapping[str, bool]] = {
    "W_enc": {"W_enc": False, "encoder.weight": True},
    "b_enc": {"b_enc": False, "encoder.bias": False, "latent_bias": False},
    "W_dec": {"W_dec": False, "decoder.weight": True},
    "b_dec": {"b_dec": False, "decoder.bias": False, "bias": False, "pre_bias": False},
    "threshold": {"threshold": False},
}


class Latents(nn.Module):
    """The autoencoder's weights; as a module it hands on codes, so that hooks read them or set some to 0.

    weights: W_enc [inputs, latents], b_enc [latents], W_dec [latents, inputs], b_dec [inputs], and for
    jumprelu threshold [latents]. k: of topk, how many codes of a vector are not 0. subtract_bias: encode what
    is left of a vector without b_dec.
    """

    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor
    threshold: Tensor

    def __init__(
        self, weights: Mapping[str, Tensor], activation: Activation, k: int, subtract_bias: bool
    ) -> None:
        super().__init__()
        for name, tensor in weights.items():
            self.register_buffer(name, tensor.float())
        self.activation, self.k, self.subtract_bias = activation, k, subtract_bias

    def forward(self, codes: Tensor) -> Tensor:
        """The codes as they are."""
        return codes

    def encode(self, vectors: Tensor) -> Tensor:
        """The codes of vectors [..., inputs]: [..., latents], none below 0."""
        centered = vectors - self.b_dec if self.subtract_bias else vectors
        before = centered @ self.W_enc + self.b_enc
        if self.activation == "jumprelu":
            return torch.where(before > self.threshold, before, torch.zeros_like(before))
        codes = torch.relu(before)
        if self.activation == "topk":
            return highest_only(codes, self.k)
        return codes

    def decode(self, codes: Tensor) -> Tensor:
        """The vectors that codes stand for."""
        found: Tensor = codes @ self.W_dec + self.b_dec
        return found


def highest_only(codes: Tensor, k: int) -> Tensor:
    """The k highest codes of each vector [..., latents], the others 0."""
    highest = codes.topk(min(k, codes.shape[-1]), dim=-1)
    return torch.zeros_like(codes).scatter(-1, highest.indices, highest.values)


def with_latents(base: HookedTarget, layer: str, latents: Latents) -> HookedTarget:
    """A copy of a network that has the latents of one of its layers as the layer `sae`.

    Where nothing is pruned, the network goes on as it would without them. Of a pruned latent the network
    loses what it adds to the vectors; what the autoencoder does not explain of them stays.
    """
    model = deepcopy(base.model).float()
    model.add_module(SAE, latents)

    def read(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor | None:
        at = units_at(output)
        vectors = output.movedim(at, -1)
        codes = latents.encode(vectors)
        given = codes.movedim(-1, at)
        handed = latents(given)
        if handed is given:
            return None
        seen = handed.movedim(at, -1)
        return (vectors + latents.decode(seen) - latents.decode(codes)).movedim(-1, at)

    model.get_submodule(layer).register_forward_hook(read)
    dtype: Dtype = str(base.dtype).removeprefix("torch.")  # type: ignore[assignment]
    return HookedTarget(
        model,
        base.preprocessing,
        names=base.names,
        pool=base.pool,
        tokens=base.tokens,
        prefix_tokens=base.prefix_tokens,
        identity={
            "base": base.fingerprint,
            "layer": layer,
            "activation": latents.activation,
            "k": latents.k,
            "subtract_bias": latents.subtract_bias,
        },
        device=base.device,
        dtype=dtype,
        batch_size=base.batches.size,
    )


def read_sae(path: Path, units: int, activation: Activation) -> dict[str, Tensor]:
    """The arrays of a file under the names of `Latents`.

    Raises:
        UsageError: the file is not of a known layout, or its arrays do not fit a layer of so many units.
    """
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UsageError(f"checkpoint={str(path)!r} is no .safetensors file: {error}") from error
    weights = dict(_arrays(found))
    needed = {"W_enc", "b_enc", "W_dec", "b_dec", *(["threshold"] if activation == "jumprelu" else [])}
    if missing := sorted(needed - weights.keys()):
        known = "; ".join(f"{name}: {' or '.join(_NAMES[name])}" for name in missing)
        raise UsageError(
            f"checkpoint={str(path)!r} lacks {', '.join(missing)} of a sparse autoencoder (it has"
            f" {', '.join(sorted(found)[:8])}); known names are {known}"
        )
    latents = weights["b_enc"].numel()
    shapes = {
        "W_enc": (units, latents),
        "b_enc": (latents,),
        "W_dec": (latents, units),
        "b_dec": (units,),
        "threshold": (latents,),
    }
    for name, shape in shapes.items():
        if name in needed and tuple(weights[name].shape) != shape:
            raise UsageError(
                f"checkpoint={str(path)!r}: {name} is {list(weights[name].shape)}, and a layer of {units}"
                f" units with {latents} latents needs {list(shape)}"
            )
    return {name: weights[name] for name in sorted(needed)}


def _arrays(found: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for ours, names in _NAMES.items():
        for theirs, transposed in names.items():
            if theirs in found:
                yield ours, found[theirs].T.contiguous() if transposed else found[theirs]
                break
