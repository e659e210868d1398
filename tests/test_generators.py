"""The diffusion generator: real pipelines of diffusers, the embedded one and tiny ones made here."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from transformers import CLIPConfig, CLIPImageProcessor

from dnr_bench.app.composition import load_config
from dnr_bench.generators.diffusion import DiffusionGenerator
from dnr_bench.infra.errors import RunError, UsageError
from dnr_bench.infra.shipped import CHECKPOINTS
from dnr_bench.protocols import Generator
from dnr_bench.shapes.fidelity import fidelity, held_out_requests, judged
from tests.conftest import SMALL
from tests.helpers.building import build

CommandLine = Callable[[Sequence[str]], subprocess.CompletedProcess[str]]
PROMPTS = ["a realistic image of red circle", "stripes", "a realistic image of red circle", "a star", "blue"]
SEEDS = [11, 12, 13, 2**55, 0]


def generator(*overrides: str) -> DiffusionGenerator:
    config = load_config("generator=diffusion", *(f"generator.{override}" for override in overrides))
    built = build(config.generator, Generator, "generator")
    assert isinstance(built, DiffusionGenerator)
    return built


@pytest.mark.slow
def test_an_image_depends_on_its_prompt_and_seed_only() -> None:
    drawer = generator()
    images = list(drawer.generate(PROMPTS, SEEDS))
    assert [image.shape for image in images] == [(64, 64, 3)] * 5
    assert not np.array_equal(images[0], images[2])  # the same prompt, another seed
    pairs = list(zip(PROMPTS, SEEDS, strict=True))
    for order in ([0, 1, 2, 3, 4], [4, 2, 0, 3, 1], [3], [1, 1, 0]):
        prompts, seeds = zip(*(pairs[i] for i in order), strict=True)
        again = list(drawer.generate(prompts, seeds))
        assert all(np.array_equal(image, images[i]) for image, i in zip(again, order, strict=True)), order
    others = list(zip(["white background"] * 20, range(20), strict=True))  # all of one batch, one of the next
    prompts, seeds = zip(*others[:15], *pairs, *others[15:], strict=True)
    assert all(map(np.array_equal, list(drawer.generate(prompts, seeds))[15:20], images))


@pytest.mark.slow
def test_another_batch_size_changes_few_values_by_one() -> None:
    images = np.stack(list(generator().generate(PROMPTS, SEEDS))).astype(int)
    for batch_size in (1, 3, 50):
        others = np.stack(list(generator(f"batch_size={batch_size}").generate(PROMPTS, SEEDS)))
        assert np.abs(others - images).max() <= 1
        assert (others != images).mean() < 1e-3


@pytest.mark.slow
def test_other_schedulers_draw_the_same_things_and_follow_the_seeds() -> None:
    requests = held_out_requests(2)
    prompts, seeds = [request.prompt for request in requests], list(range(len(requests)))
    usual = generator()
    assert type(usual.pipeline.scheduler).__name__ == "DPMSolverMultistepScheduler"
    fingerprints = {usual.fingerprint}
    before = np.stack(list(usual.generate(prompts, seeds)))
    for overrides in (
        ["scheduler=DDIMScheduler", "steps=20"],
        ["scheduler=LCMScheduler", "steps=4"],
        ["scheduler_options={solver_order: 1}"],
    ):
        other = generator(*overrides)
        images = list(other.generate(prompts, seeds))
        assert np.array_equal(images[1], next(iter(other.generate(prompts[1:2], seeds[1:2])))), overrides
        assert (np.stack(images) != before).any(), overrides
        assert fidelity(judged(requests, images))[0] > 0.7, overrides  # LCM is for models distilled for it
        fingerprints.add(other.fingerprint)
    assert len(fingerprints) == 4


@pytest.mark.slow
def test_a_fingerprint_is_the_same_in_every_process() -> None:
    options = ["scheduler=LCMScheduler", "scheduler_options={timestep_scaling: 5.0}"]
    code = (
        "import sys\n"
        "from dnr_bench.app.composition import load_config\n"
        "from dnr_bench.app.parts import PartBuilder\n"
        "from dnr_bench.protocols import Generator\n"
        "options = [f'generator.{option}' for option in sys.argv[1:]]\n"
        "print(PartBuilder(load_config(*options)).part('generator', Generator).fingerprint)\n"
    )
    command = [sys.executable, "-c", code, *options]
    environment = {**os.environ, "PYTHONHASHSEED": "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == generator(*options).fingerprint


def test_only_what_changes_images_changes_the_fingerprint() -> None:
    usual = generator().fingerprint
    assert generator("batch_size=3").fingerprint == usual
    guided = generator("guidance=2.5").fingerprint
    for override in ("steps=9", "guidance=2.5", "dtype=bfloat16", "size=32"):
        assert generator(override).fingerprint != usual, override
    assert generator("guidance=2.5", "negative_prompt=red").fingerprint != guided


def test_guidance_of_one_runs_the_denoiser_once_a_step() -> None:
    for guidance, rows in ((1.0, 1), (3.0, 2)):
        drawer = generator(f"guidance={guidance}", "steps=3", "batch_size=1")
        seen: list[int] = []
        drawer.pipeline.unet.register_forward_pre_hook(
            lambda _, inputs, seen=seen: seen.append(len(inputs[0]))
        )
        list(drawer.generate(["red"], [0]))
        assert seen == [rows] * 3


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["steps=0"], r"generator\.steps=0 must be at least 1"),
        (["scheduler=Euler"], r"'Euler' is no scheduler of diffusers; .*DDIMScheduler"),
        (["scheduler_options={karras: true}"], r"has no \['karras'\]; it has .*use_karras_sigmas"),
        (["checkpoint=no/such/folder"], r"generator\.checkpoint='no/such/folder' is neither a directory"),
        (["checkpoint=embedded:clip"], r"no diffusers pipeline \(it has no model_index\.json\)"),
        (["checkpoint=embedded:nope"], r"embedded are .*embedded:generator"),
        (["dtype=int8"], r"generator\.dtype='int8' is not of type .*bfloat16"),
        (["size=30"], r"generator\.size=30 must be a multiple of 8"),
        (["safety_checker=true"], r"safety_checker=true, but .* has none"),
        (["negative_prompt=red", "guidance=1.0"], r"negative_prompt='red' needs guidance above 1"),
        (["revision=main"], r"revision='main' is for names on the model hub"),
    ],
)
def test_wrong_settings_say_what_is_allowed(overrides: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        generator(*overrides)


def test_an_unreachable_hub_ends_with_one_message(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
    done = command_line([*SMALL, "generator=diffusion", "generator.checkpoint=owner/model"])
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "generator.checkpoint='owner/model' is no directory here and could not be had" in done.stderr


def test_weights_in_pickles_are_refused(tmp_path: Path) -> None:
    shutil.copytree(CHECKPOINTS / "generator", tmp_path / "pipeline")
    weights = tmp_path / "pipeline" / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save({}, weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(UsageError, match="safetensors"):
        generator(f"checkpoint={tmp_path / 'pipeline'}")


def test_the_safety_checker_is_used_where_it_is_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "with_checker"
    _pipeline_that_flags_everything(path)
    off = generator(f"checkpoint={path}", "steps=1")
    assert next(iter(off.generate(["red"], [0]))).any()
    on = generator(f"checkpoint={path}", "steps=1", "safety_checker=true")
    assert on.fingerprint != off.fingerprint
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(RunError, match="flagged every one of 5 images of 'red'"),
    ):
        list(on.generate(["red"], [0]))
    assert "flagged 1 images, which are drawn anew" in caplog.text
    torch.nn.init.constant_(on.pipeline.safety_checker.concept_embeds_weights, 2.0)  # nothing is flagged now
    assert np.array_equal(next(iter(on.generate(["red"], [0]))), next(iter(off.generate(["red"], [0]))))


def _pipeline_that_flags_everything(path: Path) -> None:
    vision = {
        "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
        "image_size": 32, "patch_size": 16,
    }  # fmt: skip
    checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=4))
    torch.nn.init.constant_(checker.concept_embeds_weights, -2.0)
    embedded = StableDiffusionPipeline.from_pretrained(CHECKPOINTS / "generator")
    parts = {**embedded.components, "safety_checker": checker}
    parts["feature_extractor"] = CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    StableDiffusionPipeline(**parts).save_pretrained(path)
