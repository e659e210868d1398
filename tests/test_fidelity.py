"""The check of text-to-image models: what it asks for, and that it can tell good from bad."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dnr_bench.shapes.concepts import parse
from dnr_bench.shapes.fidelity import (
    KINDS,
    Drawn,
    Request,
    by_attribute,
    contact_sheet,
    fidelity,
    held_out_requests,
    judged,
    paint,
)
from dnr_bench.shapes.generator import RendererGenerator
from dnr_bench.shapes.render import sample_scene
from dnr_bench.shapes.train.generator import words_for
from dnr_bench.shapes.world import held_out_scene


def test_requests_are_of_every_kind_and_mean_what_they_say() -> None:
    requests = held_out_requests(28)
    assert Counter(request.kind for request in requests) == dict.fromkeys(KINDS, 28)
    assert requests == held_out_requests(28)
    assert len({request.prompt for request in requests}) == len(requests)
    assert requests
    for request in requests:
        assert parse(request.prompt) == request.concept, request
    full = [request.concept for request in requests if request.kind == "full description"]
    assert all(len(concept.attributes) == 4 for concept in full)


def test_training_never_shows_what_is_held_out() -> None:
    rng = np.random.default_rng(0)
    scenes = [sample_scene(rng) for _ in range(3000)]
    assert np.mean([held_out_scene(scene) for scene in scenes]) == pytest.approx(0.05, abs=0.015)
    shown = {words_for(scene, rng) for scene in scenes if not held_out_scene(scene)}
    requests = held_out_requests(28)
    assert len(shown) > 1000
    assert not shown & {request.prompt for request in requests if request.kind != "full description"}
    told = {parse(text) for text in shown if len(parse(text).attributes) == 4}
    full = {request.concept for request in requests if request.kind == "full description"}
    assert not told & full


def test_the_oracle_is_faithful_and_a_careless_painter_is_not() -> None:
    requests = held_out_requests(28)
    drawn = judged(requests, paint(RendererGenerator(), requests, each=2))
    share, n = fidelity(drawn)
    assert share > 0.97
    assert n > len(drawn)
    assert min(value for value, _ in by_attribute(drawn).values()) > 0.8
    careless = [Drawn(a.request, b.image, b.seen) for a, b in zip(drawn, drawn[::-1], strict=True)]
    assert fidelity(careless)[0] < 0.5


def test_alternatives_count_once_and_need_one_side() -> None:
    request = Request("alternatives", "red or blue", parse("red or blue"))
    blank = np.zeros((64, 64, 3), np.uint8)
    assert Drawn(request, blank, frozenset({"blue", "star"})).named == {"red or blue": True}
    assert Drawn(request, blank, frozenset({"green", "star"})).named == {"red or blue": False}
    full = Request("pair", "a red ring", parse("a red ring"))
    assert Drawn(full, blank, frozenset({"red", "star"})).named == {"red": True, "ring": False}


def test_the_sheet_frames_what_the_judge_misses(tmp_path: Path) -> None:
    requests = held_out_requests(1)[:3]
    drawn = judged(requests, paint(RendererGenerator(), requests, each=2))
    wrong = [Drawn(drawn[0].request, drawn[0].image, frozenset()), *drawn[1:]]
    for name, shown in (("right.png", drawn), ("wrong.png", wrong)):
        contact_sheet(shown, tmp_path / name)
    right, framed = (np.asarray(Image.open(tmp_path / name)) for name in ("right.png", "wrong.png"))
    assert right.shape == framed.shape
    assert right.shape[0] == 3 * 70
    rows, columns = np.nonzero((right != framed).any(axis=2))
    assert rows.max() < 70
    assert columns.max() < 450 + 70
