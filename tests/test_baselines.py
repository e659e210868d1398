"""CLIP-Dissect and Network Dissection against their formulas, and on the planted units."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dnr_bench.app.composition import load_config
from dnr_bench.app.configuration import build_run
from dnr_bench.app.run import RunConfig, RunResult, run
from dnr_bench.infra.errors import UsageError
from dnr_bench.methods.network_dissection import concept_masks, overlaps, thresholds
from dnr_bench.methods.similarities import SIMILARITIES, Similarity
from dnr_bench.shapes.concepts import parse
from dnr_bench.shapes.probe import ShapesProbe
from dnr_bench.shapes.target import hooked_network

BuildRun = Callable[..., RunConfig]


def random_input(seed: int, images: int = 150) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.gamma(1.0, 1.0, (images, 12)).astype(np.float32), rng.uniform(-0.1, 0.4, (images, 23))


def in_chunks(cosines: np.ndarray, size: int) -> Callable[[], Iterator[np.ndarray]]:
    def chunks() -> Iterator[np.ndarray]:
        yield from np.split(cosines, range(size, cosines.shape[1], size), axis=1)

    return chunks


def reference_soft_wpmi(q: np.ndarray, cosines: np.ndarray) -> np.ndarray:
    """Equations 3 and 5 of the paper, image by image and concept by concept, in double precision."""
    similarity = torch.softmax(10 * torch.tensor(cosines), dim=1)
    result = torch.empty(q.shape[1], cosines.shape[1], dtype=torch.float64)
    for neuron in range(q.shape[1]):
        order = torch.argsort(torch.tensor(q[:, neuron]), descending=True)[:100]
        for concept in range(cosines.shape[1]):
            total = 0.0
            for place, image in enumerate(order.tolist()):
                inside = 0.998 - place / 100 * (0.998 - 0.97)
                total += torch.log(1 + inside * (similarity[image, concept] - 1) + 1e-7)
            result[neuron, concept] = total
    mean = torch.logsumexp(result, dim=0) - torch.log(torch.tensor(float(q.shape[1])))
    return (result - mean).numpy()


@pytest.mark.parametrize("seed", range(5))
def test_soft_wpmi_is_the_papers_formula(seed: int) -> None:
    activations, cosines = random_input(seed)
    found = SIMILARITIES["soft_wpmi"](activations, in_chunks(cosines, 7))
    assert found == pytest.approx(reference_soft_wpmi(activations, cosines), abs=1e-5)


def test_wpmi_is_the_papers_formula() -> None:
    activations, cosines = random_input(0)
    similarity = torch.log_softmax(2 * torch.tensor(cosines), dim=1).exp()
    given = torch.stack(
        [
            torch.log(similarity[np.argsort(-activations[:, n])[:28].copy()] + 1e-7).sum(dim=0)
            for n in range(activations.shape[1])
        ]
    )
    expected = given - 0.6 * (torch.logsumexp(given, dim=0) - np.log(len(given)))
    found = SIMILARITIES["wpmi"](activations, in_chunks(cosines, 5))
    assert found == pytest.approx(expected.numpy(), abs=1e-5)


def test_cosines_are_cosines() -> None:
    activations, cosines = random_input(1)
    centered, others = activations - activations.mean(axis=0), cosines - cosines.mean(axis=0)
    for name, (a, b) in {"cos": (activations, cosines), "cos_cubed": (centered**3, others**3)}.items():
        found = SIMILARITIES[name](activations, in_chunks(cosines, 4))  # type: ignore[index]
        expected = torch.nn.functional.cosine_similarity(
            torch.tensor(a).double().T[:, None], torch.tensor(b).double().T[None], dim=2
        )
        assert found == pytest.approx(expected.numpy(), abs=1e-5)


def test_rank_reorder_prefers_the_concept_that_orders_the_images_alike() -> None:
    rng = np.random.default_rng(2)
    activations = rng.gamma(1.0, 1.0, (400, 1)).astype(np.float32)
    ranks = activations[:, 0].argsort().argsort()
    cosines = rng.uniform(0.1, 0.4, (400, 9))
    cosines[:, 4] = np.sort(cosines[:, 4])[ranks]
    cosines[:, 7] = np.sort(cosines[:, 7])[::-1][ranks]
    found = SIMILARITIES["rank_reorder"](activations, in_chunks(cosines, 4))[0]
    assert found[4] == 0
    assert found.argmin() == 7
    assert found[[0, 1, 2, 3, 5, 6, 8]].mean() < -0.5


@pytest.mark.parametrize("name", list(SIMILARITIES))
def test_similarities_do_not_depend_on_chunks_or_on_the_order_of_images(name: Similarity) -> None:
    activations, cosines = random_input(3)
    once = SIMILARITIES[name](activations, in_chunks(cosines, 100))
    assert SIMILARITIES[name](activations, in_chunks(cosines, 3)) == pytest.approx(once, abs=1e-9)
    order = np.random.default_rng(0).permutation(len(activations))
    again = SIMILARITIES[name](activations[order], in_chunks(cosines[order], 9))
    assert again == pytest.approx(once, abs=1e-9)
    assert np.isfinite(SIMILARITIES[name](np.zeros_like(activations), in_chunks(cosines, 9))).all()


def test_thresholds_are_the_quantile_of_all_places() -> None:
    target = hooked_network("embedded:target", pool="mean", device="cpu", batch_size=32)
    probe = ShapesProbe(70).load(0)
    images = list(probe.images)
    pairs = [(row, unit) for unit in range(64) for row in range(len(images))]
    maps = np.stack(target.maps(images, "concepts", pairs)).reshape(64, -1)
    found = thresholds(target, probe, "concepts", 64, quantile=0.01)
    n = int(np.ceil(0.01 * maps.shape[1]))
    assert np.array_equal(found, np.sort(maps, axis=1)[:, -n])
    sampled = thresholds(target, probe, "concepts", 64, quantile=0.01, most=maps.shape[1] // 2)
    above = (maps > sampled[:, None]).mean(axis=1)[sampled > 0]
    assert len(above) > 20
    assert above.mean() == pytest.approx(0.01, abs=0.002)
    assert not np.array_equal(sampled, found)


def test_overlaps_are_ious_of_masks_with_the_places_above_the_threshold() -> None:
    target = hooked_network("embedded:target", pool="mean", device="cpu", batch_size=32)
    probe = ShapesProbe(9).load(0)
    masks = concept_masks(probe)
    high = thresholds(target, probe, "concepts", 64, quantile=0.05)
    found = overlaps(target, probe, "concepts", high, masks)
    unit, concept = 13, int(np.argmax(found[13]))
    shared = union = 0
    for index in range(9):
        (activation_map,) = target.maps([probe.images[index]], "concepts", [(0, unit)])
        grid = torch.tensor(activation_map)[None, None]
        active = torch.nn.functional.interpolate(grid, size=(64, 64), mode="bilinear")[0, 0] > high[unit]
        numbers, shown = masks.load(index)
        truth = shown[numbers.tolist().index(concept)] if concept in numbers else np.zeros((64, 64), bool)
        shared += int((active.numpy() & truth).sum())
        union += int((active.numpy() | truth).sum())
    assert found[unit, concept] == pytest.approx(shared / union, abs=0.01)


def test_sets_without_masks_of_concepts_dissect_by_class_or_not_at_all(small_run: BuildRun) -> None:
    probe = ShapesProbe(20, classes=["shape"]).load(0)
    masks = concept_masks(replace(probe, concepts=None))
    assert set(masks.names) == set(probe.classes or ())
    with pytest.raises(UsageError, match="needs masks of concepts"):
        concept_masks(replace(probe, concepts=None, classes=None))
    with pytest.raises(UsageError, match="feature maps with masks, and 'fc' has none"):
        small_run("method=network_dissection", "neurons.layers=[fc]", "neurons.units=[0]")


def exact(result: RunResult) -> dict[str, bool]:
    return {
        record.truth: bool(record.labels) and parse(record.labels[0]) == parse(record.truth)
        for record in result.neurons
        if record.truth not in (None, "(nothing)")
    }


@pytest.mark.parametrize("similarity", list(SIMILARITIES))
def test_clip_dissect_finds_planted_concepts(similarity: str, small_run: BuildRun) -> None:
    result = run(
        small_run(
            "method=clip_dissect", f"method.similarity={similarity}", "evaluator=[planted]", "n_labels=2"
        )
    )
    assert result.metrics["planted.attribute_f1"].mean > 0.4
    dead = [record for record in result.neurons if record.unscored]
    assert all(record.unscored.startswith("dead") for record in dead)
    assert max(len(record.labels) for record in result.neurons) == 2
    assert all(record.exemplars for record in result.neurons if not record.unscored)


@pytest.mark.slow
def test_network_dissection_finds_planted_attributes_and_withholds_weak_labels(small_run: BuildRun) -> None:
    result = run(small_run("method=network_dissection", "evaluator=[planted]", "probe.n_images=500"))
    assert exact(result)["red"]
    assert exact(result)["square"]
    strict = run(small_run("method=network_dissection", "evaluator=[planted]", "method.min_iou=0.9"))
    assert {record.unscored for record in strict.neurons} >= {"no concept's IoU reaches 0.9"}
    assert not any(record.labels for record in strict.neurons)


def test_a_concept_set_of_ones_own(tmp_path: Path, small_run: BuildRun) -> None:
    (tmp_path / "concepts.txt").write_text("red\nsquare\n")
    result = run(
        small_run(
            "method=clip_dissect", f"method.concepts={tmp_path / 'concepts.txt'}", "evaluator=[planted]"
        )
    )
    assert {label for record in result.neurons for label in record.labels} <= {"red", "square"}


@pytest.mark.parametrize("method", ["clip_dissect", "network_dissection"])
def test_what_a_baseline_cannot_use_is_said_and_it_needs_no_key(
    method: str, small_run: BuildRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [f"method={method}", "user_concepts=[zebra]", "refine=iterative", "evaluator=[]"]
    words.append("neurons.layers=[concepts]")
    with pytest.raises(UsageError, match=r"user_concepts, refine: nothing in this run looks at that"):
        build_run(load_config(*words), words)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    result = run(small_run(f"method={method}", "summarizer=openai", "evaluator=[planted]"))
    assert "captions" not in result.stages
