"""Small rating studies of planted units: runs with pictures, pages, and simulated people who answer them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dnr_bench.app.rate import build
from dnr_bench.data.exemplars import Exemplar
from dnr_bench.infra.planted import read_planted
from dnr_bench.outputs.pictures import Pictures, Tile
from dnr_bench.results.ratings.study import Study
from dnr_bench.results.schema import RunResult
from dnr_bench.shapes.raters import Rater, World, crowd, page_answers
from dnr_bench.stages.thumbnails import Strip
from tests.helpers.results import neuron, result
from tests.helpers.small_files import SCENES

PLANTED = [unit for unit in read_planted("embedded:target") if unit.concept][:10]
WORLD = World.of(PLANTED)
#: How good each method is: it says the truth for this share of units, then half of it, then something else.
METHODS = {"first_rate": 1.0, "second_rate": 0.7, "third_rate": 0.4, "fourth_rate": 0.0}


def run_folder(folder: Path, labels: Mapping[str, str]) -> Path:
    """A finished run of the planted units with these labels, and a strip of pictures for each."""
    exemplars = tuple(Exemplar(index, None, 1.0 - index / 10) for index in range(6))
    neurons = [
        neuron(
            unit.neuron.unit,
            [labels[str(unit.neuron)]] if labels.get(str(unit.neuron)) else [],
            {},
            layer=unit.neuron.layer,
            exemplars=exemplars,
            unscored=None if labels.get(str(unit.neuron)) else "no candidate",
        )
        for unit in PLANTED
    ]
    found: RunResult = result(neurons, {})
    found.write(folder)
    strips, tiles = {}, {}
    for number, one in enumerate(neurons):
        shown = [SCENES.images[number * 6 + place] for place in range(6)]
        strips[f"e{number}"] = Strip.of(shown)
        tiles[one.name] = tuple(Tile(f"e{number}", place, "", 1.0) for place in range(6))
    Pictures(strips, tiles).write(folder)
    return folder


def method_labels(quality: float) -> dict[str, str]:
    """The truth for the first units, then an attribute of it, then a word that is wrong."""
    found = {}
    for place, unit in enumerate(PLANTED):
        share = place / len(PLANTED)
        words = unit.concept.split()
        said = unit.concept if share < quality else words[-1] if share < quality + 0.3 else "purple crescent"
        found[str(unit.neuron)] = said
    return found


def runs(folder: Path) -> list[str]:
    """A run per method, as words of the command line."""
    return [
        f"{name}={run_folder(folder / name, method_labels(quality))}" for name, quality in METHODS.items()
    ]


def built(folder: Path, *words: str) -> Study:
    """A study of the four runs, in folder/study."""
    assert build.main([*runs(folder), "--into", str(folder / "study"), *words]) == 0
    return Study.read(folder / "study")


def answered(study: Study, folder: Path, people: Sequence[Rater] = (), seed: int = 0) -> list[Path]:
    """A file of answers per page; people: who sits at each page."""
    people = people or crowd(len(study.pages), 0.0, seed)
    files = []
    folder.mkdir(exist_ok=True)
    for page, rater in zip(study.pages, people, strict=True):
        path = folder / f"{page.id}.json"
        path.write_text(page_answers(study, page, rater, WORLD, seed), encoding="utf-8")
        files.append(path)
    return files


def changed(file: Path, **fields: Any) -> Path:
    """The answers of a page with other fields."""
    content = json.loads(file.read_text()) | fields
    file.write_text(json.dumps(content))
    return file


def careless(kind: str) -> Rater:
    """Somebody who does not look."""
    return replace(crowd(1, 0.0, 0)[0], care=kind)  # type: ignore[arg-type]
