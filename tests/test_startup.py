"""Nothing heavy is imported for wrong values, and no model is loaded for results that are stored."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dnr_bench.app.composition import load_config
from dnr_bench.app.configuration import build_run
from dnr_bench.app.run import run
from dnr_bench.infra.errors import RunError
from dnr_bench.infra.store import Store
from dnr_bench.shapes.probe import ShapesProbe
from dnr_bench.shapes.target import shapes_target
from dnr_bench.targets.noted import NotedTarget
from tests.conftest import ROOT, SMALL

#: Libraries that take seconds to import.
HEAVY = ("torch", "torchvision", "transformers", "diffusers", "open_clip", "sentence_transformers", "mlflow")
WRONG = [
    ["images_per_concept=x"], ["generator.steps=0"], ["blur=-1"],
    ["probe=folder", "probe.path=/nope"],
    ["target=torchvision", "target.checkpoint=/nope"], ["target.checkpoint=embedded:nope"], ["seed=-1"],
    ["captioner=blip_base", "captioner.checkpoint=./nope"], ["encoder.batch_size=0"], ["prompt=plain"],
    ["sentence_encoder.checkpoint=./nope"], ["generator.checkpoint=./nope"], ["store.images=some"],
    ["summarizer=local", "summarizer.chat.checkpoint=no.gguf"],
]  # fmt: skip


def in_a_process(script: str) -> object:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT, timeout=200
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_wrong_values_are_said_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    script = f"""
import json, sys
from dnr_bench.app.composition import load_config
from dnr_bench.app.configuration import build_run
from dnr_bench.infra.errors import DnrError
said = []
for words in {WRONG!r}:
    try:
        build_run(load_config(*words, "paths.store={tmp_path}"), words)
        said.append(f"{{words}}: nothing")
    except DnrError:
        said += [f"{{words}}: {{name}}" for name in {HEAVY!r} if name in sys.modules]
print(json.dumps(said))
"""
    assert in_a_process(script) == []


def test_a_run_whose_results_are_stored_loads_no_model(tmp_path: Path) -> None:
    words = ["evaluator=[planted,fc_layer]", "neurons.layers=[concepts,fc]", "neurons.units=[0,1,2,3]"]
    every = [*SMALL, *words, f"paths.store={tmp_path}"]
    before = run(build_run(load_config(*every)))
    script = f"""
import json, sys
from pathlib import Path
from dnr_bench.app.composition import load_config
from dnr_bench.app.configuration import build_run
from dnr_bench.app.run import run
config = build_run(load_config(*{every!r}))
result = run(config)
loaded = [name for name in {HEAVY!r} if name in sys.modules]
labels = [list(neuron.labels) for neuron in result.neurons]
print(json.dumps([loaded, labels, sum(stage.misses for stage in result.stages.values())]))
"""
    loaded, labels, computed = in_a_process(script)  # type: ignore[misc]
    assert loaded == []
    assert labels == [list(neuron.labels) for neuron in before.neurons]
    assert computed == 0


def target(store: Path, **settings: object) -> NotedTarget:
    usual = {"checkpoint": "embedded:target", "pool": "mean", "device": "cpu", "batch_size": 8,
             "random_weights": False, "seed": 0, "dtype": "float32"}  # fmt: skip
    return shapes_target(**{**usual, **settings}, store=Store(store))  # type: ignore[arg-type]


def test_a_noted_target_is_the_network(tmp_path: Path) -> None:
    first, again = target(tmp_path), target(tmp_path)
    assert first.fingerprint == again.fingerprint
    assert first.fingerprint != target(tmp_path, pool="max").fingerprint
    assert first.layers() == again.layers() == again._checked().layers()
    assert again.unit_names("fc") == again._checked().unit_names("fc")
    assert again.seen_box(30, 40) == again._checked().seen_box(30, 40)
    images = [ShapesProbe(3).load(0).images[i] for i in range(3)]
    assert np.array_equal(again.run(images, ["fc"])["fc"], again._checked().run(images, ["fc"])["fc"])


def test_weights_that_changed_under_their_name_are_said_and_noted_anew(tmp_path: Path) -> None:
    known = target(tmp_path)
    known.store.write("targets", known._key, {**known._facts, "fingerprint": "of other weights"})
    with pytest.raises(RunError, match="have changed since they were noted: run this again"):
        target(tmp_path).run([], ["fc"])
    assert target(tmp_path).run([], ["fc"])["fc"].shape == (0, 28)
