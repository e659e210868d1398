"""Which images show a concept: by CLIP, captions, classes and masks; one contract for all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from dnr_bench.app.run import RunConfig, check_images
from dnr_bench.infra.errors import UsageError
from dnr_bench.presences.captions import says
from dnr_bench.presences.classes import ClassPresence
from dnr_bench.presences.clip import ClipPresence, fit_sigmoid
from dnr_bench.presences.masks import MaskPresence
from dnr_bench.protocols import Presence
from dnr_bench.session import Session
from dnr_bench.shapes.concepts import parse
from dnr_bench.shapes.probe import ShapesProbe
from dnr_bench.statistics.wording import Wording
from tests.conftest import ROOT

BuildRun = Callable[..., RunConfig]
MEMBERS = sorted(path.stem for path in (ROOT / "conf" / "presence").glob("*.yaml"))


def built(name: str, small_run: BuildRun, *words: str) -> tuple[Presence, Session]:
    config = small_run(
        "method=invert", f"presence={name}", "+probe.classes=[texture,shape]", "evaluator=[]", *words
    )
    return config.method.presence, config.session()


def whole(presence: Presence, session: Session, concepts: list[str]) -> np.ndarray:
    return np.concatenate(list(presence.chunks(session.probe, session.probe_vectors, concepts)))


@pytest.mark.parametrize("name", MEMBERS)
def test_presence_follows_what_the_images_show(name: str, small_run: BuildRun) -> None:
    presence, session = built(name, small_run)
    concepts = list(presence.concepts(session.probe))
    assert len(set(concepts)) == len(concepts) > 10
    found = whole(presence, session, concepts)
    assert found.shape == (300, len(concepts))
    assert found.min() >= 0
    assert found.max() <= 1
    scenes = ShapesProbe(300)
    for concept in [c for c in ("red", "striped ring", "square", "blue background") if c in concepts]:
        shown = [parse(concept).matches(scenes.scene(0, i).attributes) for i in range(300)]
        assert roc_auc_score(shown, found[:, concepts.index(concept)]) > 0.95
        assert np.mean((found[:, concepts.index(concept)] >= 0.5) == shown) > 0.95


@pytest.mark.parametrize("name", MEMBERS)
def test_any_order_and_choice_of_concepts_gives_the_same(name: str, small_run: BuildRun) -> None:
    presence, session = built(name, small_run)
    concepts = list(presence.concepts(session.probe))
    some = [concepts[7], concepts[2]]
    assert whole(presence, session, some) == pytest.approx(
        whole(presence, session, concepts)[:, [7, 2]], abs=1e-6
    )
    again, _ = built(name, small_run)
    assert again.key(session.probe) == presence.key(session.probe)
    assert presence.judge


def test_the_sigmoid_is_fitted_on_words_or_given_or_the_models_own(small_run: BuildRun) -> None:
    presence, session = built("clip", small_run)
    assert isinstance(presence, ClipPresence)
    a, b = presence.sigmoid
    cosines = session.probe_vectors() @ session.embed_texts(["red"]).T
    assert whole(presence, session, ["red"]) == pytest.approx(expit(a * (cosines + b)), abs=1e-6)
    given, _ = built("clip", small_run, "presence.a=20", "presence.b=-0.5")
    assert isinstance(given, ClipPresence)
    assert given.sigmoid == (20.0, -0.5)
    assert given.key(session.probe) != presence.key(session.probe)
    for words in (["presence.a=20"], ["presence.a=-3", "presence.b=0"]):
        with pytest.raises(UsageError, match=r"presence\.a"):
            built("clip", small_run, *words)


def test_the_fit_finds_the_sigmoid_that_made_the_data() -> None:
    rng = np.random.default_rng(0)
    cosines = rng.uniform(-0.2, 0.6, (400, 50))
    present = rng.random(cosines.shape) < expit(25 * (cosines - 0.3))
    assert fit_sigmoid(cosines, present) == pytest.approx((25, -0.3), rel=0.05)


def test_captions_say_a_concept_where_they_have_all_its_words() -> None:
    wording = Wording(["a", "on", "the", "and"], ["background"])
    captions = ["a striped ring on a red background", "a red square", "squares and rings"]
    found = says(
        captions, ["ring", "red", "red background", "striped ring", "square or ring", "the"], wording
    )
    assert found.tolist() == [
        [True, False, True, True, True, False],
        [False, True, False, False, True, False],
        [True, False, False, False, True, False],
    ]


def test_superclasses_are_concepts_too(tmp_path: Path) -> None:
    file = tmp_path / "above.csv"
    file.write_text("class,superclass\nred circle,circles\nblue circle,circles\nred circle,red things\n")
    presence = ClassPresence(str(file))
    probe = ShapesProbe(60, classes=["color", "shape"]).load(0)
    assert probe.classes is not None
    concepts = list(presence.concepts(probe))
    (found,) = presence.chunks(probe, lambda: np.empty((0, 1)), ["circles", "red circle", "unheard of"])
    assert concepts[-2:] == ["circles", "red things"] or "circles" in concepts
    assert found[:, 0].astype(bool).tolist() == [c in ("red circle", "blue circle") for c in probe.classes]
    assert not found[:, 2].any()
    file.write_text("class,superclass\nred circle,\n")
    with pytest.raises(UsageError, match="line 2"):
        ClassPresence(str(file))


def test_images_that_nothing_is_known_of_are_refused(small_run: BuildRun) -> None:
    _, session = built("captions", small_run)
    from dataclasses import replace

    bare = replace(session.probe, captions=None, classes=None, concepts=None)
    for presence, reason in (
        (built("captions", small_run)[0], "says nothing"),
        (ClassPresence(None), "classes of images"),
        (MaskPresence(0.0), "masks of concepts"),
    ):
        with pytest.raises(UsageError, match=reason):
            list(presence.chunks(bare, session.probe_vectors, ["red"]))
        with pytest.raises(UsageError, match=reason):
            presence.check(bare)


def test_what_is_said_of_the_same_images_is_part_of_the_key(small_run: BuildRun) -> None:
    words = ("method=invert", "presence=classes", "evaluator=[]", "neurons.units=[9]")
    found = []
    for classes in ("[texture,shape]", "[texture]"):
        config = small_run(*words, f"+probe.classes={classes}", store="own")
        (explained,) = config.method.explain(config.neurons, config.session())
        found.append(explained.labels)
    assert found[0] != found[1] == ("striped",)


def test_a_sigmoid_that_nothing_can_tell_is_asked_for(small_run: BuildRun, tmp_path: Path) -> None:
    (tmp_path / "zebra.txt").write_text("zebra\n")
    presence, session = built("clip", small_run, f"presence.concepts={tmp_path / 'zebra.txt'}")
    with pytest.raises(UsageError, match=r"presence\.a and presence\.b cannot be fitted"):
        presence.key(session.probe)
    (tmp_path / "not.txt").write_text("circle but not red\n")
    with pytest.raises(UsageError, match="rules something out"):
        built("captions", small_run, f"presence.concepts={tmp_path / 'not.txt'}")


def test_images_without_words_are_refused_before_any_work(small_run: BuildRun) -> None:
    for words in (["method=invert", "presence=classes"], ["method=linear_explanations", "presence=classes"]):
        config = small_run(*words, "evaluator=[]", store="empty")
        with pytest.raises(UsageError, match="classes of images"):
            check_images(config, config.session())
    judged = small_run("method=clip_dissect", "presence=classes", "evaluator=[simulation]", store="empty")
    with pytest.raises(UsageError, match="classes of images"):
        check_images(judged, judged.session())
