"""Experiments of the papers: each composes and builds, and one runs, on small models of the real classes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from dnr_bench.app.configuration import load_config
from dnr_bench.app.run import run
from tests.conftest import ROOT, built_run
from tests.helpers.chat_server import Server, chat_server
from tests.helpers.small_models import SmallModels

EXPERIMENTS = sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml"))
OF_PAPERS = [name for name in EXPERIMENTS if name.startswith(("dnd", "dnr_table"))]


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
        f"summarizer.chat.base_url={server.url}",
        "generator.checkpoint=embedded:generator", "generator.variant=null", "generator.size=64",
        "generator.steps=2", f"encoder.name={clip}", f"encoder.pretrained={weights}",
        f"sentence_encoder.checkpoint={small.mpnet}", f"bert_score.checkpoint={small.roberta}",
        "bert_score.layer=1",
    ]  # fmt: skip
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
        words.append(f"probe.path={files / 'photos'}")
    if "path" in plain(config.held_out):
        words.append(f"held_out.path={files / 'photos'}")
    if "milannotations" in config.evaluator:
        words.append(f"evaluator.milannotations.path={files / 'people.csv'}")
    if "label_agreement" in config.evaluator:
        words.append(f"evaluator.label_agreement.other={files}")
    if "ood_auroc_papers" in config.evaluator:
        sets = "evaluator.ood_auroc_papers.datasets"
        words += [f"{sets}.cifar10.path={files / 'cifar'}", f"{sets}.cifar100.path={files / 'cifar'}"]
        words += [
            f"{sets}.places365.path={files / 'photos'}",
            f"{sets}.places365.labels={files / 'labels.txt'}",
        ]
        words.append(f"{sets}.places365.class_names={files / 'names.txt'}")
    return words


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
    assert f"+experiment={name}" in text or name == "gate"  # which has a command of its own
    for part in ("# command:", "# duration:", *(["# source:", "# needs:"] if name in OF_PAPERS else [])):
        assert part in text
    load_config(f"+experiment={name}")


@pytest.mark.parametrize("name", OF_PAPERS)
def test_experiments_of_the_papers_build(
    name: str, small: SmallModels, files: Path, server: Server, tmp_path: Path
) -> None:
    words = small_words(name, small, files, server, tmp_path / "store")
    if name in ("dnd_table10", "dnd_table11"):  # of which the annotations and the other run have only these
        words += ["neurons.layers=[fc]", "neurons.sample=null"]
    config = built_run(*words)
    assert config.neurons
    assert config.evaluators


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
