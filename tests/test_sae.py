"""target=sae: codes by hand, layouts of weights, pruning, tokens, and the truth of embedded latents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from dnr_bench.app.run import RunConfig, run
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.planted import read_planted
from dnr_bench.infra.shipped import CHECKPOINTS
from dnr_bench.shapes.concepts import parse
from dnr_bench.shapes.probe import ShapesProbe
from dnr_bench.shapes.target import hooked_network
from dnr_bench.targets.hooked import HookedTarget
from dnr_bench.targets.latents import SAE, Latents, read_sae, with_latents
from dnr_bench.targets.preprocessing import Preprocessing

BuildRun = Callable[..., RunConfig]


def weights(inputs: int = 4, latents: int = 6, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return {
        "W_enc": drawn(inputs, latents), "b_enc": drawn(latents), "W_dec": drawn(latents, inputs),
        "b_dec": drawn(inputs), "threshold": drawn(latents).abs(),
    }  # fmt: skip


def test_codes_are_what_each_activation_says() -> None:
    made, vectors = weights(), torch.randn(3, 5, 4)
    before = (vectors - made["b_dec"]) @ made["W_enc"] + made["b_enc"]
    relu = Latents(made, "relu", 1, subtract_bias=True)
    assert torch.allclose(relu.encode(vectors), before.clamp(min=0))
    plain = Latents(made, "relu", 1, subtract_bias=False)
    assert torch.allclose(plain.encode(vectors), (vectors @ made["W_enc"] + made["b_enc"]).clamp(min=0))
    topk = Latents(made, "topk", 2, subtract_bias=True).encode(vectors)
    assert ((topk > 0).sum(dim=-1) <= 2).all()
    assert torch.allclose(topk.amax(dim=-1), before.clamp(min=0).amax(dim=-1))
    jump = Latents(made, "jumprelu", 1, subtract_bias=True).encode(vectors)
    assert torch.allclose(jump, before * (before > made["threshold"]))
    assert torch.allclose(relu.decode(topk), topk @ made["W_dec"] + made["b_dec"])


def test_layouts_of_other_libraries_are_read_alike(tmp_path: Path) -> None:
    made = weights()
    layouts = {
        "saelens": dict(made),
        "dictionary_learning": {
            "encoder.weight": made["W_enc"].T.contiguous(), "encoder.bias": made["b_enc"],
            "decoder.weight": made["W_dec"].T.contiguous(), "bias": made["b_dec"],
        },
        "openai": {
            "encoder.weight": made["W_enc"].T.contiguous(), "latent_bias": made["b_enc"],
            "decoder.weight": made["W_dec"].T.contiguous(), "pre_bias": made["b_dec"],
        },
    }  # fmt: skip
    for name, arrays in layouts.items():
        save_file(arrays, tmp_path / f"{name}.safetensors")
        found = read_sae(tmp_path / f"{name}.safetensors", 4, "relu")
        assert {key: value.tolist() for key, value in found.items()} == {
            key: made[key].tolist() for key in ("W_enc", "b_enc", "W_dec", "b_dec")
        }


def test_weights_that_do_not_fit_are_refused_with_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"W_enc": torch.zeros(4, 6)}, path)
    with pytest.raises(
        UsageError, match=r"lacks W_dec, b_dec, b_enc of a sparse autoencoder \(it has W_enc\)"
    ):
        read_sae(path, 4, "relu")
    save_file({k: v for k, v in weights().items() if k != "threshold"}, path)
    with pytest.raises(UsageError, match="lacks threshold"):
        read_sae(path, 4, "jumprelu")
    with pytest.raises(UsageError, match=r"W_enc is \[4, 6\], and a layer of 5 units with 6 latents"):
        read_sae(path, 5, "relu")
    path.write_bytes(b"no weights at all")
    with pytest.raises(UsageError, match=r"is no \.safetensors file"):
        read_sae(path, 4, "relu")


class Patches(nn.Module):
    """Patch tokens [images, 17, 8] of images of 32 x 32 pixels, and two outputs of their class token."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.block = nn.Conv2d(3, 8, 8, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.embed(images).flatten(2).movedim(1, 2)
        tokens = torch.cat([patches.mean(dim=1, keepdim=True), patches], dim=1)
        found: Tensor = self.head(self.block(tokens)[:, 0])
        return found


def test_tokens_have_latents_too_and_the_network_goes_on_as_before() -> None:
    preprocessing = Preprocessing(32, 32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    images = list(np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8))
    made = weights(8, 12)
    for tokens in ("class", "patches"):
        base = HookedTarget(Patches(), preprocessing, tokens=tokens)
        found = with_latents(base, "block", Latents(made, "relu", 1, subtract_bias=True))
        assert found.fingerprint != base.fingerprint
        own, before = found.run(images, [SAE, "block", "head"]), base.run(images, ["block", "head"])
        assert own["head"] == pytest.approx(before["head"], abs=1e-6)
        if tokens == "class":
            vectors = torch.from_numpy(before["block"])
            wanted = Latents(made, "relu", 1, subtract_bias=True).encode(vectors)
            assert own[SAE] == pytest.approx(wanted.numpy(), abs=1e-5)
        assert own[SAE].shape == (6, 12)


class UnitsLast(nn.Module):
    """Maps with their units last, as Swin has them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.block, self.head = nn.Conv2d(3, 8, 8, 8), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.head(self.block(self.embed(images).permute(0, 2, 3, 1)).mean(dim=(1, 2)))
        return found


def test_maps_with_their_units_last_have_latents_too() -> None:
    base = HookedTarget(UnitsLast(), Preprocessing(32, 32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)))
    images = list(np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8))
    found = with_latents(base, "block", Latents(weights(8, 12), "relu", 1, subtract_bias=True))
    own = found.run(images, [SAE, "head"])
    assert own[SAE].shape == (5, 12)
    assert own["head"] == pytest.approx(base.run(images, ["head"])["head"], abs=1e-6)


def test_a_pruned_latent_takes_its_direction_from_the_network() -> None:
    base = hooked_network("embedded:target512", batch_size=16)
    sae = read_sae(CHECKPOINTS / "sae" / "sae.safetensors", 256, "topk")
    latents = Latents(sae, "topk", 12, subtract_bias=True)
    target = with_latents(base, "layer4", latents)
    probe = ShapesProbe(12).load(0)
    images = [probe.images[i] for i in range(12)]
    whole, pruned = (
        np.concatenate([batch[0]["fc"] for batch in target.stream(images, ["fc"], [pruning])])
        for pruning in ({}, {SAE: range(512)})
    )
    assert whole == pytest.approx(base.run(images, ["fc"])["fc"], abs=1e-5)
    assert np.abs(whole - pruned).mean() > 0.5
    (layer,) = [found for found in target.layers() if found.name == SAE]
    assert (layer.units, layer.spatial) == (512, True)
    maps = target.maps(images, SAE, [(0, 1), (3, 7)])
    assert [found.shape for found in maps] == [(8, 8), (8, 8)]


@pytest.mark.slow
def test_embedded_latents_detect_what_their_truth_says() -> None:
    folder = CHECKPOINTS / "sae"
    truths = read_planted("embedded:sae")
    assert len(truths) > 150
    assert sum(file.stat().st_size for file in folder.iterdir()) < 4_000_000
    assert max(array.numel() for array in load_file(folder / "sae.safetensors").values()) == 256 * 512
    from dnr_bench.shapes.latents import latent_codes

    probe = ShapesProbe(700)
    images = probe.load(5).images
    codes = latent_codes(folder, [images[i] for i in range(700)])
    aurocs = []
    for truth in truths:
        shown = [parse(truth.concept).matches(probe.scene(5, i).attributes) for i in range(700)]
        if sum(shown) >= 5:
            aurocs.append(roc_auc_score(shown, codes[:, truth.neuron.unit]))
    assert len(aurocs) > 100
    assert np.mean(aurocs) > 0.97
    assert np.quantile(aurocs, 0.05) > 0.85


@pytest.mark.slow
def test_latents_are_described_like_units(small_run: BuildRun) -> None:
    units = [truth.neuron.unit for truth in read_planted("embedded:sae") if truth.kind == "single"][:8]
    words = ["target=sae", "neurons.layers=[sae]", f"neurons.units={units}", "evaluator=[planted]"]
    result = run(small_run(*words))
    assert {neuron.layer for neuron in result.neurons} == {"sae"}
    assert result.metrics["planted.attribute_f1"].mean > result.metrics["planted.attribute_f1"].chance + 0.3


def test_another_networks_layer_can_be_chosen_and_a_wrong_one_is_refused(
    small_run: BuildRun, tmp_path: Path
) -> None:
    path = tmp_path / "x.safetensors"
    save_file({k: v for k, v in weights(128, 20).items() if k != "threshold"}, path)
    words = [f"target.checkpoint={path}", "target.activation=relu", "neurons.layers=[sae]", "evaluator=[]"]
    config = small_run("target=sae", "target@target.base=shapes", *words, "neurons.units=all")
    assert len(config.neurons) == 20
    with pytest.raises(UsageError, match=r"layer='conv9' is no layer of the network; it has"):
        small_run("target=sae", *words, "target.layer=conv9")
    with pytest.raises(UsageError, match="there is no file"):
        small_run("target=sae", "target.checkpoint=nowhere", "neurons.layers=[sae]", "evaluator=[]")
