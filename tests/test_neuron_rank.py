from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from dnr_bench.app.run import run
from dnr_bench.data.explanation import Description, Explanation, ScoredCandidate
from dnr_bench.data.neuron import Neuron
from dnr_bench.data.scorecard import Table
from dnr_bench.infra.errors import UsageError
from dnr_bench.outputs.terminal.run import print_result
from dnr_bench.shapes.target import hooked_network
from evaluators.neuron_rank import NeuronRank, Order, rank, statistics
from tests.conftest import built_run
from tests.helpers.sessions import LabelSession

#: Four images, three units: often a little, once a lot, never.
VALUES = np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [2.0, 8.0, 0.0], [1.0, 0.0, 0.0]], np.float32)


def described(labels: dict[int, str], n_units: int) -> Description:
    return Description(
        [
            Explanation(
                Neuron("layer", unit),
                (ScoredCandidate(labels[unit], "captions", 1.0),) if unit in labels else (),
                (labels[unit],) if unit in labels else (),
                None if unit in labels else "dead",
            )
            for unit in range(n_units)
        ]
    )


class AllAlike:
    """Gives every text and every neuron's exemplars vectors whose cosine is known."""

    name = fingerprint = "all alike"

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        return np.tile(np.float32([1.0, 0.0]), (len(texts), 1))

    def embed_images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        raise AssertionError("neuron_rank looks at no image")


@pytest.fixture
def found(tmp_path: Path) -> Callable[..., Table]:
    def call(rank: NeuronRank, labels: dict[int, str], values: np.ndarray = VALUES) -> Table:
        units = values.shape[1]
        session = LabelSession(
            hooked_network("embedded:target", pool="mean", device="cpu", batch_size=64),
            AllAlike(),
            tmp_path / "store",
            values={"layer": values},
            vectors={Neuron("layer", unit): np.array([0.5, 0.0]) for unit in range(units)},
        )
        (table,) = rank.evaluate(described(labels, units), session)
        return table

    return call


@pytest.fixture
def table(found: Callable[..., Table]) -> Callable[..., dict[tuple[str, str], tuple]]:
    def call(order: Order, labels: dict[int, str], values: np.ndarray = VALUES) -> dict:
        rows = found(
            NeuronRank(["layer:0", "layer:1"], None, order, k=2, alpha=0.7, clip=True, as_printed=False),
            labels,
            values,
        ).rows
        return {(row["statistic"], row["neuron"]): (row["score"], row["rank"]) for row in rows}

    return call


def test_known_values_in_both_orders(table) -> None:
    expected = {
        "mean": (1.25, 2.0, 2.0, 1.0),
        "median": (1.0, 1.0, 0.0, 2.5),
        "squared_mean": (7 / 4, 2.0, 16.0, 1.0),
        "topk_squared_mean": (5 / 2, 2.0, 32.0, 1.0),
        "topk_log": ((np.log(3) + np.log(2)) / 2, 2.0, np.log(9) / 2, 1.0),
        "topk_semantic": (0.7 * 1.5 + 0.3 * 0.25, 2.0, 0.7 * 4 + 0.3 * 0.25, 1.0),
    }
    found = table("descending", {0: "a", 1: "b"})
    assert expected.items()
    for name, (score0, rank0, score1, rank1) in expected.items():
        assert found[name, "layer:0"] == pytest.approx((score0, rank0)), name
        assert found[name, "layer:1"] == pytest.approx((score1, rank1)), name
    published = table("as_published", {0: "a", 1: "b"})
    for name, (score0, rank0, _, _) in expected.items():
        flipped = name not in ("topk_log", "topk_semantic")
        assert published[name, "layer:0"] == pytest.approx((score0, 4 - rank0 if flipped else rank0)), name


def test_the_semantic_statistic_needs_every_living_unit_labeled(table) -> None:
    assert not any(name == "topk_semantic" for name, _ in table("descending", {0: "a"}))


def test_ties_share_their_rank() -> None:
    assert rank(np.array([3.0, 1.0, 3.0]), ascending=False).tolist() == [1.5, 3.0, 1.5]
    assert rank(np.array([3.0, 1.0, 3.0]), ascending=True).tolist() == [2.5, 1.0, 2.5]


def test_a_unit_without_a_score_has_no_rank() -> None:
    found = rank(np.array([3.0, np.nan, 5.0]), ascending=False)
    assert found[[0, 2]].tolist() == [2.0, 1.0]
    assert np.isnan(found[1])


def test_k_larger_than_the_probing_set_uses_what_there_is() -> None:
    assert statistics(VALUES, k=99)["topk_squared_mean"] == pytest.approx([7 / 4, 16.0, 0.0])


def test_a_number_spreads_over_the_neurons_and_an_unknown_one_is_named(found) -> None:
    rows = found(
        NeuronRank(2, None, "descending", k=2, alpha=0.7, clip=True, as_printed=False), {0: "a", 1: "b"}
    ).rows
    assert list(dict.fromkeys(row["neuron"] for row in rows)) == ["layer:0", "layer:1"]
    with pytest.raises(UsageError, match=r"layer:7 not among the neurons of this run"):
        NeuronRank(
            ["layer:0", "layer:7"], None, "descending", k=2, alpha=0.7, clip=True, as_printed=False
        ).check(
            [Neuron("layer", 0)], hooked_network("embedded:target", pool="mean", device="cpu", batch_size=64)
        )
    with pytest.raises(UsageError, match="'seven' is no neuron"):
        NeuronRank(["seven"], None, "descending", k=2, alpha=0.7, clip=True, as_printed=False)
    for wrong in ("layer:0", []):
        with pytest.raises(UsageError, match=r"must be a number, or a list like"):
            NeuronRank(wrong, None, "descending", k=2, alpha=0.7, clip=True, as_printed=False)


def test_a_dead_layer_has_no_semantic_statistic(table) -> None:
    found = table("descending", {}, np.zeros((4, 3), np.float32))
    assert found["mean", "layer:0"] == (0.0, 2.0)
    assert not any(name == "topk_semantic" for name, _ in found)


def test_without_clip_the_semantic_statistic_needs_no_labels(found) -> None:
    rank = NeuronRank(["layer:1"], None, "as_published", k=2, alpha=0.7, clip=False, as_printed=False)
    (row,) = (row for row in found(rank, {}).rows if row["statistic"] == "topk_semantic")
    assert (row["score"], row["rank"]) == (pytest.approx(0.7 * 4.0), 1.0)


def test_as_printed_the_logarithm_is_not_clamped(found) -> None:
    values = np.array([[-0.5, 0.0], [1.0, 1.0]], np.float32)
    rank = NeuronRank(["layer:0"], None, "descending", k=2, alpha=0.7, clip=False, as_printed=True)
    (row,) = (row for row in found(rank, {}, values).rows if row["statistic"] == "topk_log")
    assert row["score"] == pytest.approx((np.log(0.5) + np.log(2)) / 2)


def test_the_neurons_with_the_highest_statistic_can_be_chosen(found) -> None:
    settings = {"k": 2, "alpha": 0.7, "clip": False, "as_printed": False}
    rows = found(NeuronRank(2, "topk_log", "descending", **settings), {}).rows
    assert list(dict.fromkeys(row["neuron"] for row in rows)) == ["layer:1", "layer:0"]
    with pytest.raises(UsageError, match=r"highest='mean' needs a number of neurons"):
        NeuronRank(["layer:0"], "mean", "descending", **settings)
    with pytest.raises(UsageError, match="needs a label of every unit of layer"):
        found(NeuronRank(2, "topk_semantic", "descending", **{**settings, "clip": True}), {})


def test_ranks_need_neither_labels_nor_captioner_nor_generator(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["method=none", "generator=none", "evaluator=[neuron_rank]", "evaluator.neuron_rank.clip=false"]
    words += ["probe.n_images=40", "neurons.layers=[fc]", "neurons.units=[0,3]", f"paths.store={tmp_path}"]
    config = built_run(*words)
    assert config.metered == {}
    result = run(config)
    assert set(result.stages) == {"evaluation"}
    assert result.nothing_labeled is None
    print_result(result, tmp_path, {}, Console())
    shown = capsys.readouterr().out
    assert "topk_semantic" in shown
    assert "runners-up" not in shown


def test_without_a_generator_images_are_asked_for_in_vain(tmp_path: Path) -> None:
    config = built_run("generator=none", "probe.n_images=40", "neurons.units=[0]", f"paths.store={tmp_path}")
    with pytest.raises(UsageError, match="generator=none draws nothing"):
        run(config)
