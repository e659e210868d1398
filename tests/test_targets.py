from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer, resnet18

from dnr_bench.infra.errors import RunError, UsageError
from dnr_bench.shapes.probe import ShapesProbe
from dnr_bench.shapes.target import hooked_network
from dnr_bench.targets.hooked import HookedTarget, untrain
from dnr_bench.targets.preprocessing import Preprocessing
from tests.helpers.inputs import inputs

PLAIN = Preprocessing(resize=64, crop=64, mean=[0.5] * 3, std=[0.25] * 3)
IMAGES = [ShapesProbe(12).load(0).images[i] for i in range(12)]


@pytest.fixture(scope="module")
def shapes() -> HookedTarget:
    return hooked_network("embedded:target", pool="mean", device="cpu", batch_size=5)


@pytest.fixture(scope="module")
def transformer() -> HookedTarget:
    torch.manual_seed(0)
    model = VisionTransformer(
        image_size=64, patch_size=16, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=6
    )
    return HookedTarget(model, PLAIN)


def test_layers_of_the_embedded_target(shapes: HookedTarget) -> None:
    layers = {layer.name: layer for layer in shapes.layers()}
    assert (layers["concepts"].units, layers["concepts"].spatial) == (64, True)
    assert (layers["fc"].units, layers["fc"].spatial) == (28, False)
    assert {"layer1", "layer2", "layer3", "layer4", "layer2.conv1"} <= layers.keys()


def test_the_last_layer_is_the_models_own_output(shapes: HookedTarget) -> None:
    with torch.inference_mode():
        direct = shapes.model(inputs(shapes.preprocessing, IMAGES)).numpy()
    assert shapes.run(IMAGES, ["fc"])["fc"] == pytest.approx(direct, abs=1e-5)


def test_pooled_activations_are_means_or_maxima_of_the_maps(shapes: HookedTarget) -> None:
    pairs = [(3, 7), (0, 7), (3, 9)]
    maps = shapes.maps(IMAGES, "concepts", pairs)
    highest = HookedTarget(shapes.model, shapes.preprocessing, pool="max")
    mean, top = shapes.run(IMAGES, ["concepts"])["concepts"], highest.run(IMAGES, ["concepts"])["concepts"]
    assert pairs
    for (image, unit), activation_map in zip(pairs, maps, strict=True):
        assert activation_map.mean() == pytest.approx(mean[image, unit], abs=1e-5)
        assert activation_map.max() == pytest.approx(top[image, unit], abs=1e-5)


def test_several_layers_take_one_forward_pass_a_batch(shapes: HookedTarget) -> None:
    calls = []
    handle = shapes.model.stem.register_forward_hook(lambda *_: calls.append(1))
    outputs = shapes.run(IMAGES, ["layer2", "concepts", "fc"])
    handle.remove()
    assert len(calls) == 3  # 12 images in batches of 5
    assert {name: output.shape for name, output in outputs.items()} == {
        "layer2": (12, 64), "concepts": (12, 64), "fc": (12, 28),
    }  # fmt: skip


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_activations_do_not_depend_on_the_batch(shapes: HookedTarget, batch_size: int) -> None:
    other = HookedTarget(shapes.model, shapes.preprocessing, batch_size=batch_size)
    assert other.fingerprint != ""
    assert other.run(IMAGES, ["concepts"])["concepts"] == pytest.approx(
        shapes.run(IMAGES, ["concepts"])["concepts"], abs=1e-5
    )


def test_a_transformers_tokens_are_pooled_by_class_token_or_patches(transformer: HookedTarget) -> None:
    name = "encoder.layers.encoder_layer_1"
    layers = {layer.name: layer for layer in transformer.layers()}
    assert (layers[name].units, layers[name].spatial) == (8, False)
    outputs = {}
    module = dict(transformer.model.named_modules())[name]
    handle = module.register_forward_hook(lambda _m, _i, output: outputs.update(tokens=output))
    with torch.inference_mode():
        transformer.model(inputs(PLAIN, IMAGES))
    handle.remove()
    patches = HookedTarget(transformer.model, PLAIN, tokens="patches")
    assert transformer.run(IMAGES, [name])[name] == pytest.approx(outputs["tokens"][:, 0].numpy(), abs=1e-5)
    assert patches.run(IMAGES, [name])[name] == pytest.approx(
        outputs["tokens"][:, 1:].mean(dim=1).numpy(), abs=1e-5
    )
    assert patches.fingerprint != transformer.fingerprint


def test_inplace_activations_do_not_change_what_a_hook_saw() -> None:
    torch.manual_seed(0)
    target = HookedTarget(resnet18(), PLAIN)
    assert target.run(IMAGES[:2], ["bn1"])["bn1"].min() < 0  # the ReLU behind it works in place


def test_images_of_any_size_are_taken(shapes: HookedTarget) -> None:
    odd = np.random.default_rng(0).integers(0, 256, (37, 91, 3), dtype=np.uint8)
    assert shapes.run([odd, IMAGES[0]], ["fc"])["fc"].shape == (2, 28)


def test_weights_and_preprocessing_are_part_of_the_fingerprint(shapes: HookedTarget) -> None:
    def small(bias: float, std: float = 0.25) -> str:
        model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 2))
        nn.init.zeros_(model[1].weight)
        nn.init.constant_(model[1].bias, bias)
        return HookedTarget(model, Preprocessing(64, 64, [0.5] * 3, [std] * 3)).fingerprint

    assert small(0.0) == small(0.0)
    assert len({small(0.0), small(1.0), small(0.0, std=0.2)}) == 3


def test_values_that_are_not_finite_end_the_run() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 2))
    nn.init.constant_(model[1].weight, float("nan"))
    with pytest.raises(RunError, match=r"layer '1' of the target gave values that are not finite"):
        HookedTarget(model, PLAIN).run(IMAGES[:1], ["1"])


def test_an_unknown_checkpoint_lists_the_embedded_ones() -> None:
    with pytest.raises(UsageError, match=r"no checkpoint directory 'embedded:nope'; .*embedded:target"):
        hooked_network("embedded:nope", pool="mean", device="cpu", batch_size=5)


def test_random_weights_follow_their_seed_and_are_a_target_of_their_own(shapes: HookedTarget) -> None:
    def untrained(seed: int) -> HookedTarget:
        return hooked_network(
            "embedded:target", pool="mean", device="cpu", batch_size=5, random_weights=True, seed=seed
        )

    one, again, other = untrained(0), untrained(0), untrained(1)
    layer, before = nn.Linear(2, 2), torch.random.get_rng_state()
    untrain(layer, seed=3)
    assert torch.equal(before, torch.random.get_rng_state())  # nobody else's random numbers change
    assert one.fingerprint == again.fingerprint
    assert len({one.fingerprint, other.fingerprint, shapes.fingerprint}) == 3
    images = ShapesProbe(20).load(seed=0).images[:20]
    outputs = one.run(images, ["concepts"])["concepts"]
    assert np.isfinite(outputs).all()
    assert np.ptp(outputs) > 0


def test_pruned_units_are_zero_for_the_rest_of_the_network(shapes: HookedTarget) -> None:
    layers = ["layer3", "concepts", "fc"]
    whole, pruned = _streamed(shapes, layers, {"concepts": [0, 13]})
    assert np.array_equal(whole["layer3"], pruned["layer3"])
    assert (pruned["concepts"][:, [0, 13]] == 0).all()
    kept = [unit for unit in range(64) if unit not in (0, 13)]
    assert np.array_equal(whole["concepts"][:, kept], pruned["concepts"][:, kept])
    weights, bias = shapes.model.fc.weight.detach().numpy(), shapes.model.fc.bias.detach().numpy()
    assert pruned["fc"] == pytest.approx(pruned["concepts"] @ weights.T + bias, abs=1e-4)
    assert shapes.run(IMAGES, layers)["fc"] == pytest.approx(whole["fc"])  # no hook is left behind


def _streamed(
    target: HookedTarget, layers: list[str], pruning: dict[str, list[int]]
) -> list[dict[str, np.ndarray]]:
    """Of all images without and with the pruning, from the same batches."""
    parts = list(target.stream(IMAGES, layers, [{}, pruning]))
    return [
        {layer: np.concatenate([part[place][layer] for part in parts]) for layer in layers}
        for place in range(2)
    ]


def test_units_of_token_layers_are_pruned_in_every_token(transformer: HookedTarget) -> None:
    layer = "encoder.layers.encoder_layer_0"
    patches = HookedTarget(transformer.model, PLAIN, tokens="patches")
    for target in (transformer, patches):  # the class token, and the mean of all others
        whole, found = _streamed(target, [layer], {layer: [2]})
        assert (found[layer][:, 2] == 0).all()
        assert np.array_equal(np.delete(found[layer], 2, axis=1), np.delete(whole[layer], 2, axis=1))
