from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from dnr_bench import protocols
from dnr_bench.app.composition import load_config
from dnr_bench.app.configuration import build_run
from dnr_bench.app.neurons import NeuronSelection
from dnr_bench.app.parts import PartBuilder
from dnr_bench.captioners.blip import BlipCaptioner
from dnr_bench.data.images import View
from dnr_bench.data.neuron import Layer, Neuron
from dnr_bench.infra.errors import UsageError
from dnr_bench.session import Evaluator, Method
from tests.conftest import ROOT
from tests.helpers.building import build
from tests.helpers.small_files import SCENES
from tests.helpers.small_models import SmallModels

GROUPS = {
    "target": protocols.Target,
    "probe": protocols.Probe,
    "held_out": protocols.Probe,
    "captioner": protocols.Captioner,
    "summarizer": object,  # a summarizer or a proposer
    "chat": protocols.Chat,
    "generator": protocols.Generator,
    "encoder": protocols.ImageTextEncoder,
    "scorer": protocols.Scorer,
    "sentence_encoder": protocols.TextEncoder,
    "bert_score": protocols.TextMatcher,
    "proposals": protocols.Proposals,
    "method": Method,
    "corruption": protocols.Corruption,
}
MEMBERS = [(group, path.stem) for group in GROUPS for path in sorted((ROOT / "conf" / group).glob("*.yaml"))]
LAYERS = [Layer("concepts", 64, True), Layer("fc", 28, False)]


def needed(member: str, small: SmallModels, folder: Path) -> list[str]:
    """What a member of conf/ asks for: files that have no defaults, and small models of the real classes."""
    group, _, name = member.partition("/")
    sd = ["checkpoint=embedded:generator", "variant=null", "size=64", "steps=2"]
    given = {
        "target/none": ["layers={fc:28}"],
        "target/torchvision": ["weights=null"],
        "target/resnet50_imagenet": ["weights=null"],
        "target/resnet152_imagenet": ["weights=null"],
        "target/vit_b_16_imagenet": ["weights=null"],
        "target/resnet50_eurosat": lambda: [f"checkpoint={small.resnet50}"],
        "target/resnet18_places365": lambda: [f"checkpoint={small.resnet18_places}"],
        "target/tile2vec": lambda: [f"checkpoint={small.tile2vec}"],
        "target/timm": ["pretrained=false"],
        "target/custom": ["factory=torchvision.models:resnet18"],
        "captioner/blip_base": lambda: [f"checkpoint={small.blip}"],
        "captioner/blip2": lambda: [f"checkpoint={small.blip2}"],
        "captioner/openai": ["chat.base_url=http://127.0.0.1:9/v1"],
        "chat/openai": ["base_url=http://127.0.0.1:9/v1"],
        "chat/local": lambda: [f"checkpoint={small.llama}"],
        "summarizer/openai": ["chat.base_url=http://127.0.0.1:9/v1"],
        "summarizer/gpt35": ["chat.base_url=http://127.0.0.1:9/v1"],
        "summarizer/openai_images": ["chat.base_url=http://127.0.0.1:9/v1"],
        "summarizer/local": lambda: [f"chat.checkpoint={small.llama}"],
        "generator/sd14": sd,
        "generator/sd15": sd,
        "generator/sd21": sd,
        "generator/sd_turbo": sd,
        "generator/lcm": lambda: [f"checkpoint={small.lcm}", "size=16", "steps=2"],
        "generator/sdxl": lambda: [f"checkpoint={small.sdxl}", "variant=null", "size=16", "steps=2"],
        "generator/sdxl_turbo": lambda: [f"checkpoint={small.sdxl}", "variant=null", "size=16"],
        "generator/retrieval": [f"images.path={folder / 'photos'}"],
        "encoder/open_clip": lambda: [f"name={small.clip[0]}", f"pretrained={small.clip[1]}"],
        "sentence_encoder/mpnet": lambda: [f"checkpoint={small.mpnet}"],
        "bert_score/roberta": lambda: [f"checkpoint={small.roberta}", "layer=1"],
        "proposals/label_file": ["path=labels.csv"],
        "method/precomputed": ["path=labels.csv"],
        "probe/folder": [f"path={folder / 'photos'}"],
        "probe/imagenet_val": [f"path={folder / 'photos'}"],
        "probe/eurosat": [f"path={folder / 'photos'}"],
        "probe/naip": [f"path={folder / 'photos'}"],
        "probe/places365": [f"path={folder / 'photos'}", f"labels={folder / 'labels.txt'}",
                            f"class_names={folder / 'names.txt'}"],
        "probe/hf_dataset": [f"path={folder / 'dataset'}"],
        "probe/cifar10": [f"path={folder / 'cifar'}"],
        "probe/cifar100": [f"path={folder / 'cifar'}"],
        "probe/broden": [f"path={folder / 'broden'}"],
        "probe/imagenet_broden": [f"sets.imagenet.path={folder / 'photos'}",
                                  f"sets.broden.path={folder / 'broden'}"],
        "probe/eurosat_imagenet_broden": [f"sets.{name}.path={folder / 'photos'}"
                                          for name in ("imagenet", "eurosat")]
        + [f"sets.broden.path={folder / 'broden'}"],
        "evaluator/milannotations": [f"milannotations.path={folder / 'people.csv'}"],
        "evaluator/label_agreement": [f"label_agreement.other={folder}"],
        "evaluator/ratings": [f"ratings.file={folder / 'ratings.json'}"],
        "evaluator/ood_auroc_papers": [
            f"ood_auroc_papers.datasets.cifar10.path={folder / 'cifar'}",
            f"ood_auroc_papers.datasets.cifar100.path={folder / 'cifar'}",
            f"ood_auroc_papers.datasets.places365.path={folder / 'photos'}",
        ],
        "evaluator/spurious": ["spurious.terms={water:[boat]}"],
    }.get(member, [])  # fmt: skip
    words = given() if callable(given) else given
    if group == "held_out" and name != "shapes":
        words = [word.removeprefix("probe.") for word in needed(f"probe/{name}", small, folder)[:-1]]
    return [*(f"{group}.{word}" for word in words), f"paths.store={folder / 'store'}"]


def built(group: str, name: str, small: SmallModels, files: Path) -> Any:
    choice = f"+{group}={name}" if group == "chat" else f"{group}={name}"  # which stands within other parts
    config = load_config(choice, *needed(f"{group}/{name}", small, files))
    return build(config[group], GROUPS[group], group)


_members: dict[tuple[str, str], Any] = {}


def member(group: str, name: str, small: SmallModels, files: Path) -> Any:
    """The same part for all tests."""
    if (group, name) not in _members:
        _members[group, name] = built(group, name, small, files)
    return _members[group, name]


@pytest.mark.parametrize(("group", "name"), MEMBERS)
def test_every_part_composes_builds_and_keeps_its_protocol(
    group: str, name: str, small: SmallModels, files: Path
) -> None:
    part = member(group, name, small, files)
    assert isinstance(part, GROUPS[group])
    if hasattr(part, "fingerprint"):
        assert part.fingerprint == built(group, name, small, files).fingerprint


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "conf" / "evaluator").glob("*.yaml")))
def test_every_evaluator_builds_under_its_own_name(name: str, small: SmallModels, files: Path) -> None:
    config = load_config(f"evaluator=[{name}]", *needed(f"evaluator/{name}", small, files))
    assert list(config.evaluator) == [name]
    assert isinstance(build(config.evaluator[name], Evaluator, name), Evaluator)


def members(group: str, *without: str) -> list[str]:
    return [name for of, name in MEMBERS if of == group and name not in without]


@pytest.mark.parametrize("name", members("target", "none", "resnet152_imagenet", "resnet50_imagenet"))
def test_targets_give_finite_activations_of_listed_layers_in_any_batch(
    name: str, small: SmallModels, files: Path
) -> None:
    target = member("target", name, small, files)
    layers = target.layers()
    images = [SCENES.images[i] for i in range(3)] + [np.ascontiguousarray(SCENES.images[3][:40, 5:])]
    chosen = [layers[len(layers) // 2].name, layers[-1].name]
    found = target.run(images, chosen)
    assert layers
    for layer in layers:
        if layer.name in chosen:
            assert found[layer.name].shape == (4, layer.units)
            assert np.isfinite(found[layer.name]).all()
            alone = target.run(images[3:], [layer.name])[layer.name]
            assert alone[0] == pytest.approx(found[layer.name][3], rel=1e-3, abs=1e-4)
    left, top, right, bottom = target.seen_box(40, 59)
    assert left < right
    assert top < bottom


@pytest.mark.parametrize("name", members("probe", "none"))
def test_probing_sets_hold_rgb_images_with_ids_of_their_content(
    name: str, small: SmallModels, files: Path
) -> None:
    probe = member("probe", name, small, files)
    found = probe.load(0)
    assert len(found.ids) == len(found.images) >= (1 if "cifar" in name else 2)
    assert found.ids == probe.load(0).ids
    assert (found.images[1].dtype, found.images[1].shape[2]) == (np.uint8, 3)
    for known in (found.captions, found.masks, found.classes):
        assert known is None or len(known) == len(found.ids)


@pytest.mark.parametrize("name", members("captioner", "openai"))
def test_captioners_keep_order_and_length_in_any_batch(name: str, small: SmallModels, files: Path) -> None:
    captioner = member("captioner", name, small, files)
    views = [View.of(SCENES.images[i], SCENES.captions[i]) for i in range(9)]
    views.append(View.of(np.ascontiguousarray(views[0].pixels[10:40, 5:50]), views[0].caption))
    views += [
        View.of(np.ascontiguousarray(views[0].pixels[:3, :20]), "a"),
        View.of(views[0].pixels[:1, :5], "b"),
    ]
    together = list(captioner.caption(views))
    assert together == [next(iter(captioner.caption([view]))) for view in views]
    assert together[::-1] == list(captioner.caption(views[::-1]))
    if name != "blip2":  # at random weights it may say nothing
        assert all(together) == (name != "none")


@pytest.mark.parametrize(
    ("group", "name", "change"),
    [
        ("target", "shapes", "pool=max"),
        ("target", "shapes", "random_weights=true"),
        ("target", "torchvision", "tokens=patches"),
        ("target", "torchvision", "seed=1"),
        ("target", "tile2vec", "infrared=zero"),
        ("target", "tile2vec", "size=64"),
        ("target", "custom", "squash=true"),
        ("target", "custom", "interpolation=bicubic"),
        ("target", "custom", "arguments={num_classes:7}"),
        ("captioner", "blip", "prompt=a"),
        ("captioner", "blip", "max_new_tokens=3"),
        ("captioner", "blip", "dtype=bfloat16"),
        ("captioner", "openai", "chat.model=x"),
        ("captioner", "openai", "chat.image_size=64"),
        ("captioner", "openai", "caption=conf/prompts/propose.txt"),
        ("summarizer", "openai", "temperature=0.5"),
        ("summarizer", "openai", "simplify_captions=false"),
        ("summarizer", "openai", "max_words=3"),
        ("summarizer", "openai", "attempts=1"),
        ("summarizer", "openai", "chat.extra={top_p:0.5}"),
        ("summarizer", "openai", "chat.max_tokens=9"),
        ("summarizer", "local", "chat.max_tokens=9"),
        ("summarizer", "local", "chat.dtype=bfloat16"),
        ("summarizer", "openai_images", "propose=conf/prompts/caption.txt"),
        ("generator", "sd15", "steps=3"),
        ("generator", "sd15", "guidance=2"),
        ("generator", "sd15", "size=32"),
        ("generator", "retrieval", "size=64"),
        ("generator", "retrieval", "images.n_images=12"),
        ("encoder", "clip", "dtype=bfloat16"),
        ("bert_score", "roberta", "layer=2"),
    ],
)
def test_what_changes_results_changes_the_fingerprint(
    group: str, name: str, change: str, small: SmallModels, files: Path
) -> None:
    words = needed(f"{group}/{name}", small, files)
    config = load_config(f"{group}={name}", *words, f"{group}.{change}")
    changed = build(config[group], GROUPS[group], group)
    assert changed.fingerprint != member(group, name, small, files).fingerprint


@pytest.mark.parametrize(
    "change",
    [
        "replay=only",
        "chat.concurrency=1",
        "chat.budget=1",
        "chat.timeout=1",
        "chat.attempts=1",
    ],
)
def test_how_answers_come_does_not_change_the_fingerprint(
    change: str, small: SmallModels, files: Path
) -> None:
    words = needed("summarizer/openai", small, files)
    changed = build(load_config("summarizer=openai", *words, f"summarizer.{change}").summarizer, object, "s")
    assert changed.fingerprint == member("summarizer", "openai", small, files).fingerprint


def test_a_question_to_blip2_is_no_part_of_its_captions(small: SmallModels, files: Path) -> None:
    views = [View.of(SCENES.images[i], None) for i in range(3)]
    words = ["captioner=blip2", f"captioner.checkpoint={small.blip2}", "captioner.prompt='Label:'"]
    captioner = build(load_config(*words).captioner, protocols.Captioner, "captioner")
    captions = list(captioner.caption(views))
    assert len(captions) == 3
    assert not any("Label" in caption for caption in captions)
    assert isinstance(captioner, BlipCaptioner)
    places = captioner.questions(2)["input_ids"] == captioner._blip().model.config.image_token_index
    assert places.sum(dim=1).tolist() == [4, 4]  # where the model sees the image
    begun = build(load_config("captioner.prompt=a photo of").captioner, protocols.Captioner, "captioner")
    assert all(caption.startswith("a photo of") for caption in begun.caption(views))


@pytest.mark.parametrize("name", members("generator", "none"))
def test_generators_give_the_same_image_whatever_else_is_drawn(
    name: str, small: SmallModels, files: Path
) -> None:
    generator = member("generator", name, small, files)
    prompts, seeds, numbers = ["a red ring", "stripes", "a red ring"], [5, 5, 6], [0, 0, 1]
    images = list(generator.generate(prompts, seeds, numbers))
    assert [image.dtype for image in images] == [np.uint8] * 3
    for i in range(3):
        alone = next(iter(generator.generate([prompts[i]], [seeds[i]], [numbers[i]])))
        assert np.array_equal(alone, images[i])
    assert not np.array_equal(images[0], images[2])


@pytest.mark.parametrize("name", members("encoder"))
def test_clips_give_unit_vectors(name: str, small: SmallModels, files: Path) -> None:
    encoder = member("encoder", name, small, files)
    images = [SCENES.images[i] for i in range(3)]
    for vectors in (encoder.embed_images(images), encoder.embed_texts(["red", "a star"])):
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(len(vectors)), abs=1e-5)


@pytest.mark.parametrize("name", members("sentence_encoder"))
def test_sentence_encoders_give_unit_vectors(name: str, small: SmallModels, files: Path) -> None:
    encoder = member("sentence_encoder", name, small, files)
    vectors = encoder.embed_texts(["red", "a star on blue", "red"])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    assert vectors[0] == pytest.approx(vectors[2], abs=1e-6)


@pytest.mark.parametrize("name", members("bert_score"))
def test_matchers_give_one_for_equal_texts(name: str, small: SmallModels, files: Path) -> None:
    matcher = member("bert_score", name, small, files)
    assert matcher.f1(["a red star", "red"], ["a red star", "blue ring"])[0] == pytest.approx(1, abs=1e-4)


def test_encoders_give_unit_vectors_that_do_not_depend_on_the_batch() -> None:
    encoder = build(load_config().encoder, protocols.ImageTextEncoder, "encoder")
    images = [build(load_config().probe, protocols.Probe, "probe").load(0).images[i] for i in range(5)]
    vectors = encoder.embed_images(images)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    assert encoder.embed_images(images[2:3])[0] == pytest.approx(vectors[2], abs=1e-5)
    texts = encoder.embed_texts(["red", "a red ring on a blue background"])
    assert encoder.embed_texts(["red"])[0] == pytest.approx(texts[0], abs=1e-5)


def test_ints_are_fine_where_numbers_are_asked_for() -> None:
    config = build_run(load_config("scorer=semantic", "scorer.alpha=1", "blur=2"))
    assert config.probe.perturbation.blur == 2


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["probe.n_images=abc"], r"probe\.n_images='abc' is not of type int"),
        (["probe.n_images=0"], r"probe\.n_images=0 must be at least 2"),
        (["scorer=combined", "scorer.weights.probe_correlation=null"], r"not of type Mapping\[str, float\]"),
        (["neurons.units=0-999999999"], "has no unit"),
        (["neurons.units=999999990-999999999"], "has no unit 999999990"),
        (["scorer=semantic", "scorer.alpha=2"], r"scorer\.alpha=2 must lie in 0\.\.1"),
        (
            ["scorer=topk_log", "scorer.normalize=sometimes"],
            r"scorer\.normalize='sometimes' is not of type .*exemplar",
        ),
        (["scorer=topk_log", "scorer.k=2.5"], r"scorer\.k=2\.5 is not of type int"),
        (["blur=strong"], r"blur='strong' is not of type float"),
        (["seed=-1"], r"seed=-1 must be at least 0"),
        (["prompt=a picture"], r"prompt='a picture' must contain \{concept\}"),
        (["exemplars.max_iou=2"], r"exemplars\.max_iou=2 must lie in 0\.\.1"),
        (["prompt='{style} {concept}'"], r"must contain \{concept\} and no other braces"),
        (["experiment_name=2024"], r"experiment_name=2024 is not of type str"),
        (["neurons.layers=concepts"], r"neurons\.layers='concepts' must be a list: .*=\[concepts\]"),
        (["neurons.units=[0,1,abc]"], r"units whole numbers, not \['abc'\]"),
        (["+scorer.foo=1"], r"scorer: .*'foo'; allowed keys: weight, halfway"),
        (["captioner.batch_size=0"], r"captioner\.batch_size=0 must be at least 1"),
        (["n_candidates=0"], r"n_candidates=0 must be at least 1"),
        (["captioner.checkpoint=nowhere"], r"captioner\.checkpoint='nowhere' is neither a directory nor a"),
        (["neurons.sample=0"], r"neurons\.sample=0 must be at least 1"),
        (["scorer._target_=dnr_bench.scorers.nope"], r"scorer: .*nope"),
        (
            ["scorer=mean", "scorer._target_=dnr_bench.shapes.generator.RendererGenerator"],
            "scorer: .*RendererGenerator is not a Scorer",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_key(overrides: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_run(load_config(*overrides))


@pytest.mark.parametrize(
    ("units", "sample", "expected"),
    [
        ("all", None, list(range(28))),
        ("3-5", None, [3, 4, 5]),
        ([7, 0, 7], None, [7, 0]),
        ([1, 2], 9, [1, 2]),
    ],
)
def test_units_are_chosen_as_asked(units, sample, expected: list[int]) -> None:
    chosen = NeuronSelection(["fc"], units, sample).choose(LAYERS[1:], seed=0)
    assert chosen == [Neuron("fc", unit) for unit in expected]


def test_a_sample_is_random_but_seeded() -> None:
    selection = NeuronSelection(["concepts", "fc"], "all", 10)
    chosen = selection.choose(LAYERS, seed=0)
    assert chosen == selection.choose(LAYERS, seed=0) != selection.choose(LAYERS, seed=1)
    assert [neuron.layer for neuron in chosen] == ["concepts"] * 10 + ["fc"] * 10
    assert chosen[10:] == NeuronSelection(["fc"], "all", 10).choose(LAYERS[1:], seed=0)


@pytest.mark.parametrize(
    ("layers", "units", "message"),
    [
        (["layer9"], "all", r"unknown layer 'layer9'.*\n.*concepts \(64\), fc \(28\)"),
        (["concept"], "all", r"did you mean 'concepts'\?"),
        (["fc"], [99999], r"layer 'fc' has no unit 99999; it has 0\.\.27"),
        (["fc"], [-1], r"no unit -1"),
        (["fc"], "5-2", "must be all, a range like 0-15, or a list"),
        (["fc"], [], "neurons.units is empty"),
    ],
)
def test_neurons_that_do_not_exist_are_refused(layers: list[str], units, message: str) -> None:
    selection = NeuronSelection(layers, units, None)
    with pytest.raises(UsageError, match=message):
        selection.choose(selection.choose_layers(LAYERS), seed=0)


def test_equal_parts_are_built_once_but_for_those_with_a_budget() -> None:
    config = load_config("summarizer=openai")
    own = OmegaConf.create(OmegaConf.to_container(config.sentence_encoder, resolve=True))
    parts = PartBuilder(config)
    shared = parts.part("sentence_encoder", protocols.TextEncoder)
    assert parts.build(own, protocols.TextEncoder, "mine") is shared
    assert parts.build(OmegaConf.merge(own, {"batch_size": 7}), protocols.TextEncoder, "mine") is not shared
    chats = [parts.build(config.summarizer.chat, protocols.Chat, "summarizer.chat") for _ in range(2)]
    assert chats[0] is not chats[1]
