"""Blurred and corrupted probing sets: the right pixels change, always in the same way, under another name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.signal import convolve2d

from dnr_bench.app.composition import load_config
from dnr_bench.data.images import ProbeSet
from dnr_bench.infra.errors import UsageError
from dnr_bench.probes.corruptions import Corrupted, NoCorruption
from dnr_bench.probes.perturbed import BlurRegion, Perturbation, blur, foreground, perturbed
from dnr_bench.protocols import Corruption
from dnr_bench.shapes.probe import ShapesProbe
from dnr_bench.shapes.render import object_mask
from tests.conftest import ROOT
from tests.helpers.building import build

KINDS = sorted(path.stem for path in (ROOT / "conf" / "corruption").glob("*.yaml") if path.stem != "none")
PROBE = ShapesProbe(6).load(seed=0)


def changed(
    blur: float = 0.0,
    region: BlurRegion = "all",
    corruption: Corruption | None = None,
    probe: ProbeSet = PROBE,
    radius: int | None = None,
) -> ProbeSet:
    return perturbed(probe, Perturbation(blur, radius, region, corruption or NoCorruption()))


def test_nothing_asked_for_changes_nothing() -> None:
    assert changed() is PROBE


def test_each_level_has_a_name_of_its_own() -> None:
    sets = [
        PROBE,
        changed(2),
        changed(4),
        changed(2, radius=2),
        changed(2, "foreground"),
        changed(2, "background"),
        *(changed(corruption=Corrupted(kind, severity)) for kind in KINDS for severity in (1, 5)),
        changed(2, corruption=Corrupted("jpeg", 1)),
    ]
    assert len({probe.digest for probe in sets}) == len({probe.name for probe in sets}) == len(sets)
    assert changed(2).digest == changed(2.0).digest
    assert changed(2).captions == PROBE.captions


def test_the_kernel_of_clears_script_has_a_radius_of_two() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    offsets = np.arange(-2, 3)
    kernel = np.exp(-(offsets[:, None] ** 2 + offsets**2) / 2)
    kernel /= kernel.sum()
    expected = np.stack(
        [convolve2d(image[:, :, c], kernel, mode="same", boundary="symm") for c in range(3)], axis=2
    )
    assert np.abs(blur(image, 1.0, 2) - expected).max() <= 1.5  # OpenCV rounds its weights


def test_blur_is_convolution_with_a_normalized_gaussian() -> None:
    image = np.zeros((41, 41, 3), np.uint8)
    image[20, 20] = 255
    offsets = np.arange(-6, 7)
    kernel = np.exp(-(offsets**2) / (2 * 2.0**2))
    kernel /= kernel.sum()
    expected = 255 * np.outer(kernel, kernel)
    assert np.abs(blur(image, 2.0, 6)[14:27, 14:27, 0] - expected).max() <= 1
    assert np.array_equal(blur(np.full((9, 9, 3), 77, np.uint8), 4.0, 12), np.full((9, 9, 3), 77, np.uint8))
    assert np.array_equal(changed(2.0).images[3], blur(PROBE.images[3], 2.0, 6))
    with pytest.raises(UsageError, match="blur_radius=0 must be at least 1"):
        changed(1.0, radius=0)
    with pytest.raises(UsageError, match=r"blur=-1.0 must lie in 0\.\.100"):
        changed(-1.0)


@pytest.mark.parametrize("region", ["foreground", "background"])
def test_only_the_region_is_blurred(region: BlurRegion) -> None:
    soft = changed(3.0, region)
    for index in range(len(PROBE.images)):
        mask = object_mask(ShapesProbe(6).scene(0, index))
        inside = mask if region == "foreground" else ~mask
        assert np.array_equal(soft.images[index][~inside], PROBE.images[index][~inside])
        assert np.array_equal(soft.images[index][inside], blur(PROBE.images[index], 3.0, 9)[inside])
        assert (soft.images[index] != PROBE.images[index]).any()


def test_without_masks_grabcut_finds_the_foreground() -> None:
    overlaps = []
    for index in range(30):
        scene = ShapesProbe(6).scene(0, index)
        if 25 < scene.x < 39 and 25 < scene.y < 39:  # it starts from the inner part of the image
            from dnr_bench.shapes.render import render

            found, true = foreground(render(scene)), object_mask(scene)
            overlaps.append((found & true).sum() / (found | true).sum())
    assert len(overlaps) >= 3
    assert np.median(overlaps) > 0.7
    blank = np.full((40, 30, 3), 9, np.uint8)
    assert foreground(blank).any()
    assert foreground(blank[:5, :5]).any()
    unmasked = ProbeSet(PROBE.name, PROBE.ids, PROBE.images, PROBE.captions)
    soft = changed(3.0, "background", probe=unmasked)
    assert "grabcut" in soft.name
    assert np.array_equal(soft.images[0], soft.images[0])


@pytest.mark.parametrize("kind", KINDS)
def test_corruptions_grow_with_severity_and_repeat_exactly(kind: str) -> None:
    image = PROBE.images[0]
    distances = []
    for severity in range(1, 6):
        corruption = build(
            load_config(f"corruption={kind}", f"corruption.severity={severity}").corruption,
            Corruption,
            "corruption",
        )
        spoilt = corruption.apply(image, 7)
        assert spoilt.shape == image.shape
        assert spoilt.dtype == np.uint8
        assert np.array_equal(spoilt, corruption.apply(image, 7))
        distances.append(float(np.abs(spoilt.astype(int) - image).mean()))
    assert distances[0] > 0
    assert distances[4] > distances[0]
    if kind in ("noise", "occlusion"):
        assert not np.array_equal(spoilt, corruption.apply(image, 8))
    tiny = corruption.apply(np.ascontiguousarray(image[:3, :2]), 7)
    assert tiny.shape == (3, 2, 3)


def test_images_are_spoilt_each_in_its_own_way() -> None:
    same = ProbeSet("same", ["a", "b"], [PROBE.images[0], PROBE.images[0]])
    noisy = changed(corruption=Corrupted("noise", 3), probe=same)
    assert not np.array_equal(noisy.images[0], noisy.images[1])
    assert np.array_equal(noisy.images[0], changed(corruption=Corrupted("noise", 3), probe=same).images[0])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["corruption=jpeg", "corruption.severity=6"], r"corruption\.severity=6 must lie in 1\.\.5"),
        (["corruption=jpeg", "corruption.kind=fog"], r"corruption\.kind='fog' is unknown; known are noise"),
    ],
)
def test_wrong_corruptions_say_what_is_allowed(overrides: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(load_config(*overrides).corruption, Corruption, "corruption")


def test_every_corruption_has_a_config() -> None:
    from dnr_bench.probes.corruptions import _KINDS

    assert sorted(_KINDS) == KINDS
    assert Path(ROOT / "conf" / "corruption" / "none.yaml").exists()
