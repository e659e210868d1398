"""dnr-bench search: pure similarities, vectors that runs keep, and what the command says."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from dnr_bench.app.commands.search import search
from dnr_bench.app.run import RunConfig, run
from dnr_bench.app.vectors import keep_vectors
from dnr_bench.infra.errors import UsageError
from dnr_bench.results.unit_vectors import UnitVectors
from dnr_bench.shapes.concepts import parse
from dnr_bench.statistics.search import chance_of, similarities
from tests.conftest import SMALL, CommandLine

BuildRun = Callable[..., RunConfig]


def test_what_all_units_share_does_not_count() -> None:
    shared = np.array([10.0, 0.0, 0.0])
    units = shared + np.array([[0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1.0]])
    texts = np.array([[0, 1, 0], [0, 0, -1.0]])
    found = similarities(units, texts, np.zeros((2, 3)))
    assert found == pytest.approx(np.array([[1, 0], [-1, 0], [0, -1], [0, 1.0]]))
    alone = similarities(np.array([[1.0, 0]]), np.array([[1.0, 1]]), np.empty((0, 2)))
    assert alone == pytest.approx(np.array([[np.sqrt(0.5)]]))


def test_chance_is_the_share_of_pairs_that_are_as_similar() -> None:
    by_chance = np.array([0.1, 0.2, 0.3, 0.4])
    assert chance_of(np.array([0.0, 0.3, 0.31, 0.9]), by_chance).tolist() == [1.0, 0.5, 0.25, 0.0]
    assert np.isnan(chance_of(np.array([0.5]), np.empty(0))).all()


def test_vectors_come_back_as_they_were_written_and_others_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.normal(size=(3, 4)).astype(np.float32)
    labels[1] = np.nan
    made = UnitVectors(
        ("a:0", "a:1", "b:0"), rng.normal(size=(3, 4)).astype(np.float32), labels, ("clip", "f")
    )
    made.write(tmp_path)
    found = UnitVectors.read(tmp_path)
    assert (found.neurons, found.encoder) == (made.neurons, made.encoder)
    assert found.vectors == pytest.approx(made.vectors, abs=1e-2)
    assert np.isnan(found.labels[1]).all()
    with pytest.raises(UsageError, match=r"has no vectors\.npz"):
        UnitVectors.read(tmp_path / "elsewhere")
    whole = (tmp_path / "vectors.npz").read_bytes()
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        (tmp_path / "vectors.npz").write_bytes(damaged)
        with suppress(UsageError):  # or the change does not matter
            UnitVectors.read(tmp_path)
    for content in (b"", b"PK\x03\x04 broken", b"\x93NUMPY"):
        (tmp_path / "vectors.npz").write_bytes(content)
        with pytest.raises(UsageError, match="holds no vectors of neurons"):
            UnitVectors.read(tmp_path)
    hostile = np.asarray([{"a": 1}], object)
    np.savez(tmp_path / "vectors.npz", neurons=hostile, vectors=made.vectors, labels=labels, encoder=hostile)
    with pytest.raises(UsageError, match="holds no vectors of neurons"):  # which would need pickle
        UnitVectors.read(tmp_path)


@pytest.mark.slow
def test_units_are_found_by_what_they_detect(small_run: BuildRun, tmp_path: Path) -> None:
    config = small_run(
        "neurons.units=all", "method=clip_dissect", "evaluator=[planted]", "probe.n_images=600"
    )
    session, result = config.session(), run(config)
    result.write(tmp_path)
    keep_vectors(result, session, tmp_path)
    truths = {n.name: parse(n.truth) for n in result.neurons if n.truth != "(nothing)"}
    aurocs = []
    for query in ("red", "blue", "striped", "dotted", "ring", "star", "green background"):
        hits = search(query, [tmp_path], config.encoder)
        assert [hit.similarity for hit in hits] == sorted((hit.similarity for hit in hits), reverse=True)
        known = [hit for hit in hits if hit.neuron in truths]
        meant = [truths[hit.neuron].implies(parse(query)) for hit in known]
        aurocs.append(roc_auc_score(meant, [hit.similarity for hit in known]))
    assert np.mean(aurocs) > 0.9


def test_the_command_prints_units_and_refuses_another_clip(
    command_line: CommandLine, tmp_path: Path, shared_store: Path
) -> None:
    words = [*SMALL, f"paths.store={shared_store}", "method=clip_dissect", "evaluator=[]"]
    assert command_line(words).returncode == 0
    (folder,) = (tmp_path / "mlruns" / "runs").iterdir()
    assert "dnr-bench search" in (folder / "report.html").read_text()
    shown = command_line(["search", "red things", str(folder), "--top", "3"])
    assert shown.returncode == 0, shown.stderr
    assert "red things: 3 of 10 units" in shown.stdout
    assert "report.html#concepts" in shown.stdout.replace("\n", "")
    both = command_line(["search", "red", str(folder), str(folder)])
    assert "of 20 units" in both.stdout
    for wrong, reason in (
        ([" ", str(folder)], "the text is empty"),
        (["red", "encoder.batch_size=2"], "no folder of a run is named"),
        (["red", str(tmp_path)], "has no vectors.npz"),
        (["red", str(folder), "encoder=open_clip"], "were seen by embedded:clip"),
        (["red", str(folder), "--top", "0"], "top=0"),
    ):
        refused = command_line(["search", *wrong])
        assert refused.returncode == 2, refused.stdout
        assert reason in refused.stderr.replace("\n", " ")
