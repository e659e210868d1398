"""Experiments of the papers: each composes and builds, and one runs, on small models of the real classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from dnr_bench.app.composition import load_config, register_installed_configs
from dnr_bench.app.parts import PartBuilder
from dnr_bench.app.run import run
from dnr_bench.infra.shipped import CONF
from dnr_bench.methods.describe_and_dissect.method import DescribeAndDissect
from dnr_bench.session import Method
from dnr_bench.summarizers.consensus import ConsensusSummarizer
from dnr_bench.summarizers.language_model import LanguageModelSummarizer
from tests.conftest import ROOT, built_run
from tests.helpers.chat_server import Server, chat_server
from tests.helpers.small_models import SmallModels

EXPERIMENTS = sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml"))
OURS = (
    "all_evaluators", "baselines_table", "clear_blur", "dnr_ablation", "evaluator_table", "gate", "gate512",
    "generator_table", "le_simulation", "methods512", "over_specific", "rivals", "rivals60", "rivals_cost",
    "rivals_sae", "sae_units", "scorer_table", "trust",
)  # fmt: skip
OF_PAPERS = [name for name in EXPERIMENTS if name not in OURS]
#: Experiments that combine parts which others have; they compose, and their settings are tested.
WITH_PARTS_OF_OTHERS = (
    "dnd", "dnd_a8", "dnd_cifar100", "dnd_crops", "dnd_gpt4o", "dnd_table6", "dnd_table9", "dnd_table12",
    "dnr_neurons", "dnr_user_concepts",
)  # fmt: skip
VARIANTS = sorted(path.stem for path in (ROOT / "conf" / "variant").glob("*.yaml"))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with chat_server() as running:
        yield running


def small_words(name: str, small: SmallModels, files: Path, server: Server, store: Path) -> list[str]:
    """What replaces hub names by small checkpoints, and data sets by small folders."""
    config = load_config(f"+experiment={name}")
    clip, weights = small.clip
    words = [
        f"+experiment={name}", "device=cpu", f"paths.store={store}", "images_per_concept=2", "n_candidates=2",
        f"encoder.name={clip}", f"encoder.pretrained={weights}",
        f"sentence_encoder.checkpoint={small.mpnet}", f"bert_score.checkpoint={small.roberta}",
        "bert_score.layer=1",
    ]  # fmt: skip
    if "checkpoint" in config.generator:
        drawn = ("checkpoint=embedded:generator", "variant=null", "size=64", "steps=2")
        words += [f"generator.{word}" for word in drawn]
    words.append(chat_of(config, small, server))
    if OmegaConf.is_missing(config, "user_concepts"):
        words.append("user_concepts=[red thing]")
    if "family" in config.captioner:
        blip = small.blip2 if config.captioner.family == "blip-2" else small.blip
        words.append(f"captioner.checkpoint={blip}")
    else:
        (files / "20k.txt").write_text("red\nring\nstripes\n")
        words.append(f"captioner.concepts={files / '20k.txt'}")
    target = str(config.target._target_)
    if "tile2vec" in target:
        words.append(f"target.checkpoint={small.tile2vec}")
    elif name == "dnd_table4":
        words.append(f"target.checkpoint={small.resnet18_places}")
    elif name == "dnd_table8":
        (files / "ten.txt").write_text("".join(f"class{number}\n" for number in range(10)))
        words += [f"target.checkpoint={small.resnet50}", f"target.classes={files / 'ten.txt'}"]
    else:
        words.append("target.weights=null")
    if "sets" in config.probe:
        for part in config.probe.sets:
            words.append(f"probe.sets.{part}.path={files / ('broden' if part == 'broden' else 'photos')}")
    else:
        is_cifar = "kind" in config.probe
        words.append(f"probe.path={files / ('cifar' if is_cifar else 'photos')}")
        words += ["probe.split=test"] if is_cifar else []  # of which there is a small file
    if "path" in plain(config.held_out):
        words.append(f"held_out.path={files / 'photos'}")
    if "milannotations" in config.evaluator:
        words.append(f"evaluator.milannotations.path={files / 'people.csv'}")
    if "label_agreement" in config.evaluator:
        words.append(f"evaluator.label_agreement.other={files}")
    if "ratings" in config.evaluator:
        words.append(f"evaluator.ratings.file={files / 'ratings.json'}")
    if "ood_auroc_papers" in config.evaluator:
        sets = "evaluator.ood_auroc_papers.datasets"
        words += [f"{sets}.cifar10.path={files / 'cifar'}", f"{sets}.cifar100.path={files / 'cifar'}"]
        words += [
            f"{sets}.places365.path={files / 'photos'}",
            f"{sets}.places365.labels={files / 'labels.txt'}",
        ]
        words.append(f"{sets}.places365.class_names={files / 'names.txt'}")
    return words


def chat_of(config: DictConfig, small: SmallModels, server: Server) -> str:
    """What replaces a service or a large language model."""
    is_local = "LocalChat" in str(config.summarizer.chat._target_)
    return (
        f"summarizer.chat.checkpoint={small.llama}" if is_local else f"summarizer.chat.base_url={server.url}"
    )


def plain(config: DictConfig) -> dict[str, Any]:
    """A part of a config with the values that are still missing."""
    found = OmegaConf.to_container(config)
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-small")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_says_its_command_duration_and_source(name: str) -> None:
    text = (ROOT / "conf" / "experiment" / f"{name}.yaml").read_text()
    assert f"+experiment={name}" in text or name.startswith("gate")  # which has a command of its own
    for part in ("# command:", "# duration:", *(["# source:", "# needs:"] if name in OF_PAPERS else [])):
        assert part in text
    assert "# expected:" in text or name == "dnd"  # which the tables are built on
    load_config(f"+experiment={name}")


#: What DnD says of all its experiments (3, 4.1, A.1, A.7), as settings.
DND = {
    "target.pool": "mean",
    "exemplars.n": 10,  # K
    "exemplars.crops_per_image": 4,
    "exemplars.max_iou": 0.5,
    "captioner.checkpoint": "Salesforce/blip-image-captioning-base",
    "summarizer.chat.model": "gpt-3.5-turbo",
    "simplify_captions": True,
    "n_candidates": 5,  # N
    "images_per_concept": 10,  # Q
    "generator.checkpoint": "CompVis/stable-diffusion-v1-4",
    "scorer._target_": "dnr_bench.scorers.images.TopKSquaredImageProducts",
    "scorer.beta": 5,
    "scorer.t": 10,
    "encoder.name": "ViT-B-16-quickgelu",
    "encoder.pretrained": "openai",
    "sentence_encoder.checkpoint": "sentence-transformers/all-mpnet-base-v2",
    "bert_score.checkpoint": "FacebookAI/roberta-large",
    "max_label_cosine": 0.81,
    "refine.max_iterations": 0,
    "blur": 0.0,
    "choice.target": "resnet50_imagenet",
    "choice.probe": "imagenet_broden",
    "choice.method": "describe",
    "evaluator": ["cost"],
}
#: What a config without a setting has for it.
ABSENT = "(absent)"
HIDDEN = ["layer1", "layer2", "layer3", "layer4"]
#: What the papers say of each experiment: its own settings, those of the first job of a multirun.
PUBLISHED: dict[str, dict[str, Any]] = {
    "dnd": {"neurons.layers": ["fc"], "neurons.sample": None, "evaluator": ["fc_layer", "cost"]},
    "dnd_table2": {"neurons.layers": ["fc"], "neurons.sample": None, "evaluator": ["fc_layer", "cost"]},
    "dnd_table3": {
        "neurons.layers": HIDDEN, "neurons.sample": 200, "evaluator": ["cost"],
        "jobs": {"+variant": "dnd,clip_dissect_20k,network_dissection"},
    },
    "dnd_table4": {
        "choice.target": "resnet18_places365", "neurons.layers": HIDDEN, "neurons.sample": 50,
        "jobs": {},
    },
    "dnd_table5": {
        "captioner._target_": "dnr_bench.captioners.clip_concepts.ClipConcepts", "captioner.top": 1,
        "captioner.concepts": "20k.txt", "captioner.checkpoint": ABSENT, "neurons.layers": ["fc"],
        "neurons.sample": None, "evaluator": ["fc_layer", "cost"],
    },
    "dnd_table6": {
        "neurons.layers": HIDDEN, "neurons.sample": 50, "jobs": {"+variant": "dnd,no_selection"},
    },
    "dnd_table7": {
        "choice.target": "tile2vec", "choice.probe": "naip", "evaluator.pruning.by": "candidates",
        "evaluator.pruning.phi": 0.8, "evaluator.concept_groups.phi": 0.8,
        "evaluator.concept_groups.prompt": "conf/prompts/label_and_superclass.txt",
        "neurons.layers": [*HIDDEN, "layer5"], "evaluator": ["pruning", "concept_groups", "cost"],
    },
    "dnd_table8": {
        "choice.target": "resnet50_eurosat", "choice.probe": "eurosat_imagenet_broden",
        "neurons.layers": ["layer4"], "neurons.sample": None, "evaluator": ["spurious", "cost"],
        "evaluator.spurious.prune": True,
        "evaluator.spurious.terms": {"fishing": ["fishing"], "pink_or_purple": ["pink", "purple"]},
    },
    "dnd_table9": {
        "neurons.layers": HIDDEN, "neurons.sample": 50,
        "jobs": {"scorer": "mean,topk_squared,topk_squared_image_products"},
    },
    "dnd_table10": {
        "choice.target": "resnet152_imagenet", "target.pool": "max", "neurons.layers": HIDDEN,
        "neurons.sample": 50, "evaluator": ["milannotations", "cost"],
        "evaluator.milannotations.min_agreement": 0.81,
        "evaluator.milannotations.constants": ["depictions"], "jobs": {"+variant": "dnd,clip_dissect_20k"},
    },
    "dnd_table11": {
        "captioner.checkpoint": "Salesforce/blip2-opt-2.7b", "captioner.dtype": "bfloat16",
        "dtype": "float32", "neurons.layers": HIDDEN, "neurons.sample": 50,
        "evaluator": ["label_agreement", "cost"],
    },
    "dnd_table12": {
        "neurons.layers": ["fc"], "neurons.sample": 26, "evaluator": ["fc_layer", "cost"],
        "jobs": {"summarizer.chat.model": "gpt-3.5-turbo,gpt-4-turbo"},
    },
    "dnd_table12_open": {
        "neurons.layers": ["fc"], "neurons.sample": 26, "summarizer.chat.model": ABSENT,
        "evaluator": ["fc_layer", "cost"],
        "summarizer.chat._target_": "dnr_bench.chats.local.LocalChat",
    },
    "dnd_table14": {
        "neurons.layers": ["layer4"], "neurons.sample": None, "evaluator": ["ood_auroc_papers", "cost"],
    },
    "dnd_a8": {
        "neurons.layers": ["fc"], "neurons.sample": None, "evaluator": ["diversity", "cost"],
        "evaluator.diversity.pairs": 500,
    },
    "dnd_crops": {"neurons.layers": HIDDEN, "jobs": {"+variant": "dnd,no_crops"}},
    "dnd_gpt4o": {
        "neurons.layers": HIDDEN, "summarizer.chat.model": "gpt-4o",
        "summarizer._target_": "dnr_bench.summarizers.from_images.ImageProposer",
    },
    "dnd_summary": {
        "neurons.layers": HIDDEN, "jobs": {"+variant": "dnd,no_simplification,no_summary"},
    },
    "dnd_vit": {
        "choice.target": "vit_b_16_imagenet", "target.tokens": "class", "neurons.layers": ["encoder"],
        "jobs": {"+variant": "dnd,clip_dissect_20k"},
    },
    "dnd_cifar100": {
        "choice.probe": "cifar100", "probe.kind": "cifar100", "probe.split": "train",
        "neurons.layers": HIDDEN,
    },
    "dnr": {
        "choice.probe": "imagenet_val", "probe.labels": "folders", "evaluator": ["refinement", "cost"],
        "jobs": {"+variant": "dnd,topk_log,semantic,refined,refined_topk_log,refined_semantic"},
    },
    "dnr_user_concepts": {"choice.probe": "imagenet_val", "evaluator": ["user_concepts", "cost"]},
    "dnr_neurons": {
        "choice.probe": "imagenet_val", "neurons.layers": ["layer3"], "neurons.units": "all",
        "generator.checkpoint": ABSENT, "choice.method": "none", "choice.generator": "none",
        "evaluator": ["neuron_rank"], "evaluator.neuron_rank.highest": "topk_log",
        "evaluator.neuron_rank.neurons": 30,
    },
    "dnr_table1": {
        "choice.probe": "imagenet_val", "neurons.layers": ["layer3"], "neurons.units": [927],
        "generator.checkpoint": ABSENT, "choice.method": "none", "choice.generator": "none",
        "evaluator.neuron_rank.k": 5,
        "evaluator.neuron_rank.alpha": 0.7, "evaluator.neuron_rank.order": "as_published",
        "evaluator.neuron_rank.clip": False, "evaluator": ["neuron_rank"],
    },
    "clear": {
        "blur_radius": 2, "evaluator": ["fc_layer", "cost"], "jobs": {"blur": "0,1", "blur_region": "all"},
    },
}  # fmt: skip


def jobs_of(name: str) -> dict[str, str]:
    """What a multirun changes, one list of values per setting; nothing for a single run."""
    config = OmegaConf.load(ROOT / "conf" / "experiment" / f"{name}.yaml")
    found = OmegaConf.select(config, "hydra.sweeper.params") or {}
    return {str(key): str(value) for key, value in found.items()}


def looked_up(config: DictConfig, choices: Mapping[str, str], key: str) -> Any:
    """A setting; of the evaluators their names; of `choice.GROUP` the member that was chosen."""
    if key == "evaluator":
        return [str(name) for name in config.evaluator]
    if key.startswith("choice."):
        return choices[key.removeprefix("choice.")]
    node, _, last = key.rpartition(".")
    parent = OmegaConf.select(config, node) if node else config
    if parent is None or last not in parent:
        return ABSENT
    found = parent[last]
    return OmegaConf.to_container(found) if OmegaConf.is_config(found) else found


def choices_of(*words: str) -> Mapping[str, str]:
    """The member of each group that a command line chooses."""
    register_installed_configs()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=list(words), return_hydra_config=True)
    return {str(group): str(member) for group, member in config.hydra.runtime.choices.items()}


@pytest.mark.parametrize("name", OF_PAPERS)
def test_experiments_are_as_the_papers_say(name: str) -> None:
    said = DND | PUBLISHED[name]
    jobs = said.pop("jobs", {})
    assert jobs_of(name) == jobs  # table 4 takes those of table 3
    first = [f"{key}={values.split(',')[0]}" for key, values in jobs_of(name).items() if key != "scorer"]
    words = [f"+experiment={name}", *first]
    config, choices = load_config(*words), choices_of(*words)
    assert {key: looked_up(config, choices, key) for key in said} == said


def test_the_scoring_functions_of_dnr_have_its_k_and_alpha() -> None:
    for variant in ("topk_log", "semantic", "refined_topk_log", "refined_semantic"):
        config = load_config("+experiment=dnr", f"+variant={variant}")
        assert (config.scorer.k, config.scorer.normalize, config.scorer.as_printed) == (5, "none", False)
        assert config.scorer.get("alpha", 0.7) == 0.7
        assert bool(config.refine.max_iterations) == variant.startswith("refined")


def test_every_switch_to_what_is_printed_is_off_until_it_is_asked_for() -> None:
    files = sorted((ROOT / "conf").rglob("*.yaml"))
    switches = [line for path in files for line in path.read_text().splitlines() if "as_printed" in line]
    assert len(switches) >= 7
    assert all(line.strip().startswith(("as_printed: false", "#")) for line in switches)


@pytest.mark.parametrize(
    "summarizer",
    [
        "consensus",
        "openai",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("openai_images", "local", "captions")),
    ],
)
def test_every_variant_composes_and_builds_with_every_summarizer(
    summarizer: str, small: SmallModels, server: Server, tmp_path: Path
) -> None:
    (tmp_path / "20k.txt").write_text("red\n")
    assert VARIANTS
    node = load_config(f"summarizer={summarizer}")
    chat = [chat_of(node, small, server)] if "chat" in node.summarizer else []
    for variant in VARIANTS:
        words = [f"summarizer={summarizer}", f"+variant={variant}", f"paths.store={tmp_path / 'store'}"]
        words.append("captioner=none")  # which takes a second less than another
        words += chat
        if variant == "clip_dissect_20k":
            words.append(f"method.concepts={tmp_path / '20k.txt'}")
        built = PartBuilder(load_config(*words)).part("method", Method)
        if isinstance(built, DescribeAndDissect):
            asked = built.concepts.summarizer
            is_plain = variant == "no_simplification"
            if isinstance(asked, LanguageModelSummarizer):
                assert (asked.simple is None) == is_plain
            if isinstance(asked, ConsensusSummarizer):
                assert (not asked.contrast.wording.stopwords) == is_plain


@pytest.mark.parametrize("name", [name for name in OF_PAPERS if name not in WITH_PARTS_OF_OTHERS])
def test_experiments_of_the_papers_build(  # but for those with the parts of others
    name: str, small: SmallModels, files: Path, server: Server, tmp_path: Path
) -> None:
    words = small_words(name, small, files, server, tmp_path / "store")
    words += [f"{key}={values.split(',')[0]}" for key, values in jobs_of(name).items() if key != "+variant"]
    if name in ("dnd_table10", "dnd_table11"):  # of which the annotations and the other run have only these
        words += ["neurons.layers=[fc]", "neurons.sample=null"]
    config = built_run(*words)
    assert config.neurons
    assert config.evaluators
    for key, values in jobs_of(name).items():
        for value in values.split(",")[1:] if name != "dnr" else ():  # the first one was built
            given = [f"method.concepts={files / '20k.txt'}"] if value.endswith("20k") else []
            (files / "20k.txt").write_text("red\nring\nstripes\n")
            chats = [word for word in words if "chat" not in word] if value == "no_summary" else words
            job = load_config(*chats, *given, f"{key}={value}")
            assert PartBuilder(job).part("method", Method)


@pytest.mark.slow
def test_the_papers_pipeline_runs_from_images_to_figures(
    small: SmallModels, files: Path, server: Server, tmp_path: Path
) -> None:
    (tmp_path / "classes.txt").write_text("".join(f"thing {number}\n" for number in range(1000)))
    words = small_words("dnd_table2", small, files, server, tmp_path / "store")
    words += ["neurons.units=[0,1,2]", f"target.classes={tmp_path / 'classes.txt'}"]
    result = run(built_run(*words))
    assert {"activations", "captions", "candidates", "images", "image_activations"} <= result.stages.keys()
    assert result.usage["summarizer"].asked > 0
    for judge in ("clip_cos", "sentence_cos", "bertscore_f1"):
        assert result.metrics[f"fc_layer.{judge}"].n == sum(bool(r.labels) for r in result.neurons) > 0
    again = run(built_run(*words, "summarizer.replay=only"))
    assert [r.labels for r in again.neurons] == [r.labels for r in result.neurons]
    described = {name: stage for name, stage in again.stages.items() if name != "evaluation"}
    assert sum(stage.misses for stage in described.values()) == 0
