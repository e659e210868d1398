"""Networks by name and by file: torchvision, timm, Tile2Vec, and functions of the user's."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image as PILImage
from safetensors.torch import save_file
from torchvision.models import ResNet50_Weights, resnet18

from dnr_bench.app.composition import load_config
from dnr_bench.app.run import RunConfig, run
from dnr_bench.infra.errors import UsageError
from dnr_bench.protocols import Target
from dnr_bench.shapes.probe import ShapesProbe
from dnr_bench.targets.checkpoints import read_weights
from dnr_bench.targets.hooked import HookedTarget
from dnr_bench.targets.noted import NotedTarget
from tests.helpers.building import build
from tests.helpers.inputs import inputs
from tests.helpers.small_models import SmallModels

IMAGES = [ShapesProbe(4).load(0).images[i] for i in range(4)]


def target(*overrides: str) -> HookedTarget:
    built = build(load_config(*overrides).target, Target, "target")
    if isinstance(built, HookedTarget):
        return built
    assert isinstance(built, NotedTarget)
    loaded = built._checked()
    assert built.layers() == loaded.layers()
    assert built.preprocessing.key == loaded.preprocessing.key
    return loaded


def test_preprocessing_is_that_of_the_weights() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (300, 411, 3), dtype=np.uint8)
    ours = target("target=torchvision", "target.weights=null").preprocessing
    theirs = ResNet50_Weights.DEFAULT.transforms()(torch.from_numpy(photo).permute(2, 0, 1))
    found = ours.normalized(ours.seen(photo)[None], torch.float32)[0].numpy()
    assert found == pytest.approx(theirs.numpy(), abs=0.018)  # a byte more or less, where resizing rounds
    assert np.abs(found - theirs.numpy()).mean() < 0.005


def test_preprocessing_of_timm_is_timms() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (300, 411, 3), dtype=np.uint8)
    ours = target("target=timm", "target.pretrained=false")
    config = timm.data.resolve_model_data_config(ours.model)
    theirs = timm.data.create_transform(**config, is_training=False)(PILImage.fromarray(photo))
    found = inputs(ours.preprocessing, [photo])[0]
    assert found.numpy() == pytest.approx(theirs.numpy(), abs=0.05)  # its resize rounds to bytes


def test_the_last_layers_units_have_their_names(small: SmallModels, tmp_path: Path) -> None:
    (tmp_path / "places.txt").write_text("".join(f"/p/place_{i}/indoor {i}\n" for i in range(365)))
    words = ["target=resnet18_places365", f"target.checkpoint={small.resnet18_places}"]
    places = target(*words, f"target.classes={tmp_path / 'places.txt'}")
    names = places.unit_names("fc")
    assert names is not None
    assert (len(names), names[7]) == (365, "place 7 indoor")
    assert target(*words).unit_names("fc") is None
    (tmp_path / "few.txt").write_text("one\ntwo\n")
    with pytest.raises(UsageError, match="must name 365 classes, one per line; it has 2 lines"):
        target(*words, f"target.classes={tmp_path / 'few.txt'}")


def test_weights_of_a_file_are_those_that_compute(small: SmallModels) -> None:
    loaded = target("target=resnet18_places365", f"target.checkpoint={small.resnet18_places}")
    model = resnet18(num_classes=365).eval()
    weights = torch.load(small.resnet18_places, weights_only=True)["state_dict"]
    model.load_state_dict({name.removeprefix("module."): value for name, value in weights.items()})
    with torch.inference_mode():
        direct = model(inputs(loaded.preprocessing, IMAGES)).numpy()
    assert loaded.run(IMAGES, ["fc"])["fc"] == pytest.approx(direct, abs=1e-4)


def test_encoder_blocks_by_class_token_or_patches() -> None:
    words = ["target=timm", "target.name=vit_tiny_patch16_224", "target.pretrained=false"]
    by_class, by_patches = target(*words), target(*words, "target.tokens=patches")
    outputs: list[torch.Tensor] = []
    by_class.model.blocks[5].register_forward_hook(lambda _m, _i, output: outputs.append(output))
    found = by_class.run(IMAGES, ["blocks.5"])["blocks.5"]
    assert found == pytest.approx(outputs[-1][:, 0].numpy(), abs=1e-6)
    mean = by_patches.run(IMAGES, ["blocks.5"])["blocks.5"]
    assert mean == pytest.approx(outputs[-1][:, 1:].mean(dim=1).numpy(), abs=1e-5)


def test_networks_without_class_token_are_pooled_over_patches() -> None:
    words = ["target=timm", "target.name=mixer_s32_224", "target.pretrained=false"]
    assert target(*words).tokens == "patches"
    with pytest.raises(UsageError, match="tokens='class', but this network has no class token"):
        target(*words, "target.tokens=class")


def test_feature_maps_that_end_with_their_units() -> None:
    swin = target("target=torchvision", "target.name=swin_t", "target.weights=null")
    layers = {layer.name: layer for layer in swin.layers()}
    assert layers["features.1"].units == 96  # 56 x 56 places of 96 units
    outputs: list[torch.Tensor] = []
    handle = swin.model.features[1].register_forward_hook(lambda _m, _i, output: outputs.append(output))
    found = swin.run(IMAGES[:2], ["features.1"])["features.1"]
    assert found == pytest.approx(outputs[-1].mean(dim=(1, 2)).numpy(), abs=1e-5)
    handle.remove()
    (grid,) = swin.maps(IMAGES[:2], "features.1", [(1, 40)])
    assert grid == pytest.approx(outputs[-1][1, :, :, 40].numpy(), abs=1e-5)
    ((only,),) = swin.stream(IMAGES[:2], ["features.1"], [{"features.1": [40]}])
    pruned = only["features.1"]
    assert not pruned[:, 40].any()
    assert pruned[:, 41] == pytest.approx(found[:, 41], abs=1e-6)


def test_a_network_in_bfloat16_agrees_with_one_in_float32() -> None:
    words = ["target=torchvision", "target.name=resnet18", "target.weights=null"]
    full, half = target(*words), target(*words, "dtype=bfloat16")
    assert full.fingerprint != half.fingerprint
    a, b = (one.run(IMAGES, ["layer3"])["layer3"] for one in (full, half))
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.999


def test_classifiers_that_end_with_a_convolution() -> None:
    squeeze = target("target=torchvision", "target.name=squeezenet1_1", "target.weights=null")
    assert squeeze.run(IMAGES, ["classifier.1"])["classifier.1"].shape == (4, 1000)


def test_what_a_function_of_ones_own_computes_is_in_its_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self, scale):\n"
        "        super().__init__()\n"
        "        self.model, self.scale = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 9)), scale\n"
        "    def forward(self, x):\n"
        "        return self.model(x * self.scale)\n"
    )
    (tmp_path / "scaled_net.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    words = ["target=custom", "target.factory=scaled_net:Net", "target.resize=64", "target.crop=64"]
    one = target(*words, "target.arguments={scale:1}")
    other = target(*words, "target.arguments={scale:3}")
    assert one.fingerprint != other.fingerprint
    torch.save(one.model.state_dict(), tmp_path / "own.pt")  # whose names begin with "model."
    again = target(*words, "target.arguments={scale:1}", f"target.checkpoint={tmp_path / 'own.pt'}")
    assert again.fingerprint == one.fingerprint
    monkeypatch.delitem(sys.modules, "scaled_net")
    (tmp_path / "scaled_net.py").write_text(code.replace("x * self.scale", "x * self.scale + 1"))
    importlib.invalidate_caches()
    assert target(*words, "target.arguments={scale:1}").fingerprint != one.fingerprint


def test_random_weights_follow_the_seed() -> None:
    words = ["target=torchvision", "target.name=resnet18", "target.weights=null"]
    assert target(*words).fingerprint == target(*words).fingerprint
    assert target(*words, "seed=1").fingerprint != target(*words).fingerprint


def test_the_fourth_band_of_tile2vec_is_made_up(small: SmallModels) -> None:
    words = ["target=tile2vec", f"target.checkpoint={small.tile2vec}"]
    mean, zero = target(*words), target(*words, "target.infrared=zero")
    assert {"layer1", "layer5"} <= {layer.name for layer in mean.layers()}
    assert mean.fingerprint != zero.fingerprint
    a, b = (one.run(IMAGES, ["layer5"])["layer5"] for one in (mean, zero))
    assert a.shape == (4, 48)
    assert not np.allclose(a, b)


def test_a_function_of_ones_own_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_run: Callable[..., RunConfig]
) -> None:
    (tmp_path / "my_nets.py").write_text(
        "from torch import nn\n"
        "def build(width):\n"
        "    return nn.Sequential(nn.Conv2d(3, width, 5, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1),\n"
        "                         nn.Flatten(), nn.Linear(width, 3))\n"
    )
    (tmp_path / "names.txt").write_text("circle\nstar\nring\n")
    monkeypatch.chdir(tmp_path)
    words = [
        "target=custom",
        "target.factory=my_nets:build",
        "target.arguments={width:6}",
        "target.resize=64",
    ]
    words += ["target.crop=64", "target.classes=names.txt", "evaluator=[fc_layer]", "neurons.units=[0,1]"]
    result = run(small_run(*words, "neurons.layers=['1','4']"))
    assert {(r.layer, r.unit) for r in result.neurons} == {("1", 0), ("1", 1), ("4", 0), ("4", 1)}
    assert result.metrics["fc_layer.clip_cos"].n + result.metrics["fc_layer.clip_cos"].unscored == 2
    with pytest.raises(UsageError, match="unknown layer 'conv1'") as raised:
        small_run(*words, "neurons.layers=[conv1]")
    assert "layers (units): 0 (6), 1 (6), 2 (6), 3 (6), 4 (3)" in str(raised.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["target=torchvision", "target.name=resnet51"],
            r"name='resnet51' is no classifier .*close are resnet",
        ),
        (
            ["target=torchvision", "target.weights=BEST"],
            r"weights='BEST': resnet50 has IMAGENET1K_V1, IMAGENET",
        ),
        (["target=timm", "target.name=resnet51"], r"name='resnet51' is no network of timm; close are resnet"),
        (["target=timm", "target.checkpoint=x"], r"are two sets of weights; choose one"),
        (["target=custom", "target.factory=torch"], r"factory='torch' must be module:function"),
        (["target=custom", "target.factory=torch:nothing"], r"factory='torch:nothing': .*nothing"),
        (["target=custom", "target.factory=builtins:dict"], r"returned dict, not a torch.nn.Module"),
        (["target=resnet50_eurosat", "target.checkpoint=nowhere.pt"], r"checkpoint='nowhere.pt' is no file"),
        (
            ["target=torchvision", "target.weights=null", "device=cuda:31"],
            r"device='cuda:31': there are \d+ CUDA",
        ),
    ],
)
def test_what_is_no_target_is_said(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        target(*words)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('pickle ran')",))


def test_checkpoints_with_code_in_them_are_refused_and_others_do_not_fit(
    small: SmallModels, tmp_path: Path
) -> None:
    torch.save({"state_dict": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(UsageError, match="cannot be read as weights alone"):
        read_weights(str(tmp_path / "evil.pt"), resnet18())
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(UsageError, match="holds no weights by name"):
        read_weights(str(tmp_path / "list.pt"), resnet18())
    (tmp_path / "cut.safetensors").write_bytes(Path(small.resnet50).read_bytes()[:1000])
    with pytest.raises(UsageError, match="cannot be read as weights alone"):
        read_weights(str(tmp_path / "cut.safetensors"), resnet18())
    with pytest.raises(UsageError, match=r"does not fit the network ResNet: .* missing"):
        target("target=torchvision", "target.name=resnet101", f"target.checkpoint={small.resnet50}")
    save_file({"other.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(UsageError, match="has no weights of the last layer 'fc'"):
        target("target=torchvision", f"target.checkpoint={tmp_path / 'other.safetensors'}")
    with pytest.raises(UsageError, match="is no Tile2Vec network"):
        target("target=tile2vec", f"target.checkpoint={small.resnet50}")
