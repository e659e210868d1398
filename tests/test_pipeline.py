from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dnr_bench.app.composition import load_config
from dnr_bench.app.run import RunConfig, RunResult, run
from tests.conftest import SMALL

ABOVE_SCORING = (
    "activations", "exemplars", "captions", "candidates", "images", "image_activations",
    "image_embeddings", "text_embeddings",
)  # fmt: skip
BuildRun = Callable[..., RunConfig]
#: Units of several kinds, for what holds whichever neurons are described.
FEW = ("neurons.units=[0,20,40,60]", "probe.n_images=120")


def labels(result: RunResult) -> dict[str, list[tuple[str, float]]]:
    return {
        f"{record.layer}:{record.unit}": [(c.text, c.score) for c in record.candidates]
        for record in result.neurons
    }


def assert_same(a: RunResult, b: RunResult, tolerance: float) -> None:
    left, right = labels(a), labels(b)
    assert left.keys() == right.keys()
    for neuron, candidates in left.items():
        assert [text for text, _ in candidates] == [text for text, _ in right[neuron]], neuron
        scores = [score for _, score in candidates], [score for _, score in right[neuron]]
        assert scores[0] == pytest.approx(scores[1], abs=tolerance), neuron


def misses(result: RunResult) -> dict[str, int]:
    return {name: result.stages[name].misses for name in ABOVE_SCORING if name in result.stages}


def test_planted_units_are_described(small_run: BuildRun, tmp_path: Path) -> None:
    result = run(small_run("captioner=dataset"))
    records = {record.unit: record for record in result.neurons}
    assert records[0].truth == "red"
    assert records[0].labels == ("red",)
    assert records[60].unscored.startswith("dead")
    assert records[60].labels == ()
    assert records[60].score is None
    assert records[62].truth == "(nothing)"
    scored = [record for record in result.neurons if not record.unscored]
    for record in scored:
        scores = [candidate.score for candidate in record.candidates]
        assert scores == sorted(scores, reverse=True)
        assert record.score == scores[0]
        assert len(record.exemplars) == 10
    metric = result.metrics["planted.attribute_f1"]
    assert metric.mean > 0.7
    assert metric.low <= metric.mean <= metric.high
    assert metric.chance < 0.2
    assert metric.n == 9
    path = result.write(tmp_path / "run")
    assert json.loads(path.read_text())["neurons"][0]["labels"] == ["red"]


def test_another_scorer_computes_nothing_above_scoring(small_run: BuildRun) -> None:
    first = run(small_run(*FEW, store="new"))
    assert all(misses(first).values())
    second = run(small_run(*FEW, "scorer=topk_log", store="new"))
    assert set(misses(second).values()) == {0}
    assert second.stages["evaluation"].misses == 0
    assert labels(first) != labels(second)


@pytest.mark.slow
def test_the_default_generator_is_a_diffusion_model_and_draws_once(small_run: BuildRun) -> None:
    assert "DiffusionGenerator" in load_config().generator["_target_"]
    small = (
        "generator=diffusion",
        "neurons.units=[0]",
        "images_per_concept=2",
        "evaluator=[]",
        "probe.n_images=60",
    )
    first = run(small_run(*small, store="new"))
    assert first.stages["images"].misses > 0
    assert all(record.labels for record in first.neurons)
    assert set(misses(run(small_run(*small, store="new"))).values()) == {0}
    assert_same(first, run(small_run(*small, store="fresh")), tolerance=0)


@pytest.mark.slow
def test_a_cleared_store_gives_identical_labels_and_scores(small_run: BuildRun) -> None:
    assert_same(run(small_run(*FEW, store="one")), run(small_run(*FEW, store="two")), tolerance=0)


def test_batch_size_and_order_of_neurons_do_not_matter(small_run: BuildRun) -> None:
    first = run(small_run(*FEW, store="one"))
    small = [f"{part}.batch_size=7" for part in ("target", "captioner", "encoder")]
    config = small_run(*FEW, *small, store="two")
    backwards = replace(config, neurons=config.neurons[::-1])
    assert_same(first, run(backwards), tolerance=1e-5)


@pytest.mark.slow
def test_each_blur_level_is_a_probing_pass_of_its_own(small_run: BuildRun) -> None:
    sharp, soft = (run(small_run(*FEW, "evaluator=[]", *blur, store="new")) for blur in ([], ["blur=2"]))
    assert sharp.probe.digest != soft.probe.digest
    assert soft.stages["activations"].misses == 1
    again = run(small_run(*FEW, "evaluator=[]", "blur=2.0", store="new"))
    assert again.stages["activations"].misses == 0


@pytest.mark.slow
def test_crops_are_exemplars_only_where_they_are_asked_for(small_run: BuildRun) -> None:
    with_crops = run(small_run("evaluator=[]", "captioner=dataset"))
    without = run(small_run("evaluator=[]", "captioner=dataset", "exemplars.crops_per_image=0"))
    boxes = [[item.box for record in r.neurons for item in record.exemplars] for r in (with_crops, without)]
    assert any(boxes[0])
    assert not any(boxes[1])


@pytest.mark.slow
def test_layers_without_maps_are_described_from_whole_images(small_run: BuildRun) -> None:
    result = run(small_run("neurons.layers=[fc]", "neurons.units=[0,8]", "captioner=dataset"))
    assert [record.truth for record in result.neurons] == ["solid circle", "striped square"]
    assert not any(item.box for record in result.neurons for item in record.exemplars)
    assert set(result.metrics) == {
        f"fc_layer.{name}" for name in ("clip_cos", "sentence_cos", "bertscore_f1")
    }


@pytest.mark.slow
def test_more_images_a_concept_keep_those_that_were_drawn(small_run: BuildRun) -> None:
    drawn: list[int] = []

    def counted(config: RunConfig) -> RunConfig:
        generate = config.generator.generate

        def counting(prompts: list[str], seeds: list[int], numbers: list[int]):
            drawn.append(len(prompts))
            return generate(prompts, seeds, numbers)

        config.generator.generate = counting
        return config

    words = (*FEW, "evaluator=[]", "captioner=dataset")
    few = run(counted(small_run(*words, "images_per_concept=2", store="new")))
    concepts = few.stages["images"].misses
    assert sum(drawn) == 2 * concepts
    drawn.clear()
    more = run(counted(small_run(*words, "images_per_concept=3", store="new")))
    assert sum(drawn) == concepts
    fresh = run(small_run(*words, "images_per_concept=3", store="fresh"))
    assert_same(more, fresh, tolerance=0)


@pytest.mark.slow
def test_the_seed_reaches_probing_set_and_images(small_run: BuildRun) -> None:
    one, two = (run(small_run(*FEW, "evaluator=[]", f"seed={seed}", store="new")) for seed in (0, 1))
    assert one.probe.digest != two.probe.digest
    assert all(misses(two)[stage] > 0 for stage in ("activations", "captions", "images"))


def test_results_hold_no_number_that_json_does_not_know(small_run: BuildRun, tmp_path: Path) -> None:
    result = run(small_run("neurons.units=[60,61]"))
    assert result.metrics["planted.abstained_correctly"].mean == 1.0
    json.loads(result.write(tmp_path).read_text(), parse_constant=lambda name: pytest.fail(name))
    assert np.isfinite(result.seconds)


@pytest.mark.slow
def test_labels_do_not_depend_on_the_hash_seed(small_run: BuildRun, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from dnr_bench import build_run, load_config, run\n"
        "run(build_run(load_config(*sys.argv[2:]))).write(Path(sys.argv[1]))\n"
    )
    few = (*FEW, "captioner=dataset", "evaluator=[]")
    words = [*SMALL, *few]
    command = [sys.executable, "-c", code, tmp_path / "one", *words, f"paths.store={tmp_path / 'store'}"]
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": seed}, check=True, capture_output=True)
    run(small_run(*few, store="other")).write(tmp_path / "two")
    found = [json.loads((tmp_path / name / "result.json").read_text())["neurons"] for name in ("one", "two")]
    assert found[0] == found[1]


def test_a_run_needs_neither_hydra_nor_mlflow() -> None:
    code = "import sys, dnr_bench.app.run, evaluators.planted; print({'hydra', 'mlflow'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
