"""A network and photographs of somebody's own: real words, odd pictures, no truth."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from PIL import Image as PILImage

from dnr_bench.app.commands import gate
from dnr_bench.app.run import RunConfig, run
from dnr_bench.infra.errors import UsageError
from tests.conftest import Completed
from tests.helpers.small_models import SmallModels

BuildRun = Callable[..., RunConfig]
CommandLine = Callable[[Sequence[str]], Completed]

THINGS = [
    "ostrich",
    "whale",
    "safe",
    "teapot",
    "harp",
    "lighthouse",
    "tractor",
    "violin",
    "cactus",
    "anchor",
    "igloo",
    "walrus",
    "kettle",
    "windmill",
    "parrot",
    "sundial",
    "canoe",
    "beehive",
    "cello",
    "lantern",
    "otter",
    "pagoda",
    "quilt",
    "rickshaw",
    "saxophone",
    "toucan",
    "unicycle",
    "viaduct",
    "waffle",
    "xylophone",
    "yurt",
    "zeppelin",
    "abacus",
    "bagpipe",
    "caravan",
    "dynamo",
    "easel",
    "ferret",
    "gondola",
    "hammock",
]
#: Words that the alphabet puts first, and that say nothing.
FILLERS = ("10", "american", "beige", "colorful")


def picture(index: int) -> PILImage.Image:
    """Of any size; every third with transparent areas, under which other colors lie."""
    rng = np.random.default_rng(index)
    height, width = (int(side) for side in rng.integers(40, 320, 2))
    pixels = np.zeros((height, width, 4), np.uint8)
    pixels[..., :3] = rng.integers(0, 256, 3)
    pixels[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4, :3] = rng.integers(0, 256, 3)
    pixels[..., 3] = 255
    if index % 3 == 0:
        pixels[: height // 3, :, 3] = 0
    return PILImage.fromarray(pixels, "RGBA")


def folder_of(root: Path, numbers: Sequence[int]) -> Path:
    """Pictures, and captions that share no word but fillers."""
    root.mkdir()
    with (root.parent / f"{root.name}.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "caption"])
        for number in numbers:
            picture(number).save(root / f"{number:03}.png")
            thing = f"{THINGS[number % len(THINGS)]}{number // len(THINGS) or ''}"
            rows.writerow([f"{number:03}.png", f"{FILLERS[number % 4]} {thing}"])
    return root


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mine")
    folder_of(root / "photos", range(120))
    folder_of(root / "others", range(200, 240))
    (root / "names.txt").write_text("\n".join(THINGS[:10]) + "\n")
    return root


@pytest.fixture
def settings(photographs: Path, small: SmallModels) -> list[str]:
    return [
        "target=custom",
        "target.factory=torchvision.models:resnet18",
        "target.resize=64",
        "target.crop=64",
        "target.arguments={num_classes: 10}",
        f"target.classes={photographs / 'names.txt'}",
        "neurons.layers=[fc]",
        "neurons.units=all",
        "probe=folder",
        f"probe.path={photographs / 'photos'}",
        f"probe.captions={photographs / 'photos.csv'}",
        "probe.n_images=null",
        "captioner=dataset",
        "generator=retrieval",
        f"generator.images.path={photographs / 'others'}",
        f"generator.images.captions={photographs / 'others.csv'}",
        "generator.size=64",
        "images_per_concept=3",
        "sentence_encoder=mpnet",
        f"sentence_encoder.checkpoint={small.mpnet}",
        "evaluator=[planted,fc_layer]",
    ]


@pytest.fixture
def mine(settings: list[str], small_run: BuildRun) -> BuildRun:
    def build(*more: str) -> RunConfig:
        return small_run(*settings, *more)

    return build


@pytest.mark.slow
def test_labels_are_phrases_of_captions_of_high_exemplars(
    mine: BuildRun, caplog: pytest.LogCaptureFixture
) -> None:
    result = run(mine())
    for neuron in result.neurons:
        highest = " / ".join(neuron.captions[:3])
        assert neuron.labels
        assert all(side in highest for side in neuron.labels[0].split(" or "))
        assert neuron.labels[0] not in FILLERS
        assert not {"10", "american"} & {c.text for c in neuron.candidates}
    told = "\n".join(record.getMessage() for record in caplog.records)
    assert "planted is left out: it knows what the units of the embedded target detect" in told
    assert "evaluator=[fc_layer,held_out]" in told
    assert "encoder: small embedded models that know the shapes world alone" in told
    assert told.count("have transparent areas, which are laid on white") == 2  # of each folder once
    assert "fc_layer.clip_cos is left out: embedded:clip does not know the words of 'ostrich'" in told
    assert told.count("fc_layer.bertscore_f1 is left out") == 1
    assert result.metrics.keys() == {"fc_layer.sentence_cos"}
    assert "copy" in result.metrics["fc_layer.sentence_cos"].controls


@pytest.mark.slow
def test_retrieved_pictures_count_only_where_their_captions_say_the_concept(mine: BuildRun) -> None:
    config = mine("evaluator=[]")
    session = config.session()
    drawn, _ = session.draw(["ostrich5", "a thing that nobody has"])  # picture 200 is ostrich5
    fit = drawn.fit
    assert fit is not None
    assert fit[0] == 1
    assert session.drawn("ostrich5").pixels.shape == (3, 64, 64, 3)
    result = run(config, session)
    shown = [c.shown for neuron in result.neurons for c in neuron.candidates]
    assert None not in shown
    assert 0 in shown


def test_class_names_are_captions_too(mine: BuildRun, tmp_path: Path) -> None:
    for number in range(24):
        folder = tmp_path / "classes" / THINGS[number % 6]
        folder.mkdir(parents=True, exist_ok=True)
        picture(number + 300).save(folder / f"{number}.png")
    words = [f"probe.path={tmp_path / 'classes'}", "probe.captions=null", "evaluator=[]"]
    result = run(mine(*words, "probe.labels=folders"))
    said = {side for neuron in result.neurons for side in neuron.labels[0].split(" or ")}
    assert said <= set(THINGS[:6])
    with pytest.raises(UsageError, match=r"captioner=dataset repeats what .* probe.labels=folders"):
        run(mine(*words))


def test_overlaps_are_found_before_work_and_named(mine: BuildRun, photographs: Path) -> None:
    config = mine("evaluator=[held_out]", "held_out=folder", f"held_out.path={photographs / 'photos'}")
    named = r"\(000.png, 001.png, 002.png \.\.\.\)"
    with pytest.raises(UsageError, match=rf"120 of the 120 .* must be others {named}"):
        run(config)
    assert "activations" not in config.store.counts
    with pytest.raises(UsageError, match=rf"120 of its images are images of the probing set, too {named}"):
        mine(f"generator.images.path={photographs / 'photos'}", "generator.images.captions=null").session()


def test_a_clip_that_does_not_know_the_labels_is_no_judge_of_them(
    mine: BuildRun, photographs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder_of(photographs / "more", range(400, 440))
    words = ["evaluator=[held_out]", "held_out=folder", f"held_out.path={photographs / 'more'}"]
    assert not run(mine(*words)).metrics
    assert "held_out is left out: embedded:clip does not know the words of" in caplog.text
    result = run(mine(*words, f"held_out.captions={photographs / 'more.csv'}"))
    assert result.metrics["held_out.correlation"].judge == "captions of the images"
    assert result.metrics["held_out.f1"].n + result.metrics["held_out.f1"].unscored == 10


def test_a_larger_sample_has_the_smaller_one(mine: BuildRun) -> None:
    few, more = (
        set(mine("neurons.layers=[layer4]", f"neurons.sample={n}", "evaluator=[]").neurons) for n in (10, 30)
    )
    assert len(few) == 10
    assert few < more


@pytest.mark.slow
def test_the_gate_of_a_network_of_ones_own(settings: list[str], tmp_path: Path) -> None:
    mine = [f"baseline={tmp_path / 'mine.yaml'}", f"paths.mlruns={tmp_path / 'mlruns'}"]
    assert gate.main([*mine, "update=true", *settings, "report=false"]) == 0
    written = yaml.safe_load((tmp_path / "mine.yaml").read_text())
    assert written["tolerances"] == {"fc_layer.sentence_cos": 0.05}
    assert "target=custom" in written["settings"]
    assert len(written["neurons"]) == 10
    for record in written["neurons"].values():
        record["values"]["fc_layer.sentence_cos"] = 1.5
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(written))
    also = ["--junit", str(tmp_path / "gate.xml"), "--markdown", str(tmp_path / "gate.md")]
    assert gate.main([*mine, *also]) == 1  # the baseline says what is run
    suite = ElementTree.parse(tmp_path / "gate.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("1", "1")
    assert suite.find("testcase/failure") is not None
    assert "| fc_layer.sentence_cos |" in (tmp_path / "gate.md").read_text()


@pytest.mark.slow
def test_a_dry_run_shows_the_plan_and_what_earlier_runs_took(
    settings: list[str], command_line: CommandLine, tmp_path: Path
) -> None:
    words = [*settings, f"paths.mlruns={tmp_path / 'mlruns'}", "evaluator=[fc_layer]", "report=false"]
    first = command_line([*words, "dry=true"])
    assert first.returncode == 0, first.stderr
    assert "120 probing images; neurons: 10 of fc" in first.stdout
    assert "not measured here yet" in first.stdout
    assert not list(tmp_path.glob("mlruns/*.db"))  # nothing was run or logged
    assert command_line(words).returncode == 0
    assert "this very run has been done" in command_line([*words, "dry=true"]).stdout
    other = command_line([*words, "dry=true", "neurons.units=0-4"]).stdout
    assert re.search(r"candidates +5 +neurons +\d", other)
    wrong = command_line([*words, "dry=true", "probe.captions=null"])
    assert wrong.returncode == 2
    assert "captioner=dataset repeats what the probing set says" in wrong.stderr
    many = command_line(["-m", *words, "dry=true", "seed=0,1"])
    assert many.returncode == 2
    assert "leave out -m" in many.stderr
