from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from dnr_bench.data.exemplars import Activations
from dnr_bench.data.neuron import Layer
from dnr_bench.infra.errors import UsageError
from dnr_bench.stages.exemplars import ExemplarSettings, attention_boxes, iou, never_fires, top_images
from dnr_bench.targets.preprocessing import Preprocessing


def spots(size: int, *places: tuple[slice, slice], level: float = 5.0) -> np.ndarray:
    activation_map = np.zeros((size, size), np.float32)
    for place in places:
        activation_map[place] = level
    return activation_map


def test_iou_by_hand() -> None:
    assert iou((0, 0, 4, 4), (0, 0, 4, 4)) == 1
    assert iou((0, 0, 4, 4), (4, 0, 8, 4)) == 0
    assert iou((0, 0, 4, 4), (2, 0, 6, 4)) == pytest.approx(8 / 24)


def test_a_bright_spot_gives_a_box_around_it_in_image_pixels() -> None:
    ((left, top, right, bottom),) = attention_boxes(
        spots(8, np.s_[2:4, 5:7]), (64, 64), (0, 0, 64, 64), n=4, max_iou=0.5, max_iou_with_image=0.8
    )
    assert abs(left - 40) <= 4
    assert abs(right - 56) <= 4
    assert abs(top - 16) <= 4
    assert abs(bottom - 32) <= 4


@pytest.mark.parametrize("level", [0.001, 1.0, 300.0])
def test_boxes_do_not_depend_on_the_scale_of_the_map(level: float) -> None:
    map_at = lambda value: spots(8, np.s_[2:4, 5:7], level=value)  # noqa: E731
    arguments = ((64, 64), (0.0, 0.0, 64.0, 64.0), 4, 0.5, 0.8)
    assert attention_boxes(map_at(level), *arguments) == attention_boxes(map_at(5.0) - 2, *arguments)


def test_boxes_come_largest_first_and_at_most_n() -> None:
    activation_map = spots(16, np.s_[1:3, 1:3], np.s_[5:10, 5:10], np.s_[13:15, 12:15])
    boxes = attention_boxes(
        activation_map, (64, 64), (0, 0, 64, 64), n=4, max_iou=0.5, max_iou_with_image=0.8
    )
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in boxes]
    assert len(boxes) == 3
    assert areas == sorted(areas, reverse=True)
    assert (
        attention_boxes(activation_map, (64, 64), (0, 0, 64, 64), n=2, max_iou=0.5, max_iou_with_image=0.8)
        == boxes[:2]
    )


def test_overlapping_boxes_are_dropped_by_eta() -> None:
    """An L and a spot within the rectangle around it: two contours whose boxes overlap."""
    activation_map = spots(32, np.s_[4:28, 4:7], np.s_[25:28, 4:28], np.s_[8:21, 11:28])
    arguments = (activation_map, (64, 64), (0.0, 0.0, 64.0, 64.0), 4)
    two = attention_boxes(*arguments, max_iou=0.5, max_iou_with_image=0.8)
    assert len(two) == 2
    overlap = iou(*two)
    assert 0.3 < overlap < 0.5
    assert attention_boxes(*arguments, max_iou=overlap - 0.01, max_iou_with_image=0.8) == two[:1]


def test_a_box_around_nearly_everything_is_no_crop() -> None:
    activation_map = np.ones((8, 8), np.float32)
    activation_map[0, 0] = 0
    assert (
        attention_boxes(activation_map, (64, 64), (0, 0, 64, 64), n=4, max_iou=0.5, max_iou_with_image=0.8)
        == []
    )


def test_as_printed_a_box_around_nearly_everything_is_a_crop() -> None:
    activation_map = np.zeros((16, 16), np.float32)
    activation_map[1:15, 0:16] = 1
    arguments = (activation_map, (64, 64), (0.0, 0.0, 64.0, 64.0), 4, 0.5)
    assert attention_boxes(*arguments, max_iou_with_image=0.8) == []
    assert len(attention_boxes(*arguments, max_iou_with_image=1.0)) == 1


def test_a_flat_map_gives_no_box() -> None:
    assert attention_boxes(np.ones((8, 8), np.float32), (64, 64), (0, 0, 64, 64), 4, 0.5, 0.8) == []


def test_boxes_of_a_center_crop_lie_in_the_original_image() -> None:
    """A 400x200 image resized to 200 and cropped to 100: the target sees the middle."""
    preprocessing = Preprocessing(resize=200, crop=100, mean=[0, 0, 0], std=[1, 1, 1])
    seen = preprocessing.seen_box(height=200, width=400)
    assert seen == (150, 50, 250, 150)
    ((left, top, right, bottom),) = attention_boxes(spots(10, np.s_[0:3, 0:3]), (200, 400), seen, 4, 0.5, 0.8)
    assert (left, top) == (150, 50)
    assert abs(right - 180) <= 5
    assert abs(bottom - 80) <= 5


def test_the_seen_box_undoes_the_resize_of_the_shorter_side() -> None:
    preprocessing = Preprocessing(resize=256, crop=224, mean=[0, 0, 0], std=[1, 1, 1])
    assert preprocessing.seen_box(512, 512) == (32, 32, 480, 480)
    squashed = Preprocessing(resize=64, crop=64, mean=[0, 0, 0], std=[1, 1, 1], squash=True)
    assert squashed.seen_box(100, 300) == (0, 0, 300, 100)


def test_top_images_prefer_the_earlier_of_a_tie() -> None:
    assert top_images(np.asarray([1.0, 3.0, 3.0, 2.0]), 3) == [1, 2, 3]


def test_a_unit_that_never_changes_is_dead() -> None:
    values = np.stack([np.zeros(5), np.arange(5)], axis=1).astype(np.float32)
    activations = Activations(Layer("l", 2, False), values, "x")
    assert never_fires(activations, 0)
    assert not never_fires(activations, 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n": 0, "crops_per_image": 4, "max_iou": 0.5, "max_iou_with_image": 0.8}, "n=0 must be at least 1"),
        (
            {"n": 10, "crops_per_image": -1, "max_iou": 0.5, "max_iou_with_image": 0.8},
            "crops_per_image=-1 must be at least 0",
        ),
        (
            {"n": 10, "crops_per_image": 4, "max_iou": 1.5, "max_iou_with_image": 0.8},
            r"max_iou=1.5 must lie in 0\.\.1",
        ),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ExemplarSettings(**settings)


@pytest.mark.parametrize("size", [(90, 120), (452, 329), (57, 300), (64, 64), (101, 99)])
def test_preprocessing_is_what_torchvision_does(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    preprocessing = Preprocessing(resize=64, crop=55, mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.4])
    reference = v2.Compose(
        [v2.ToImage(), v2.Resize(64), v2.CenterCrop(55), v2.Lambda(lambda x: x.float() / 255),
         v2.Normalize([0.4, 0.5, 0.6], [0.2, 0.3, 0.4])]
    )  # fmt: skip
    ours = preprocessing.normalized(preprocessing.seen(image)[None], torch.float32)[0]
    assert ours.numpy() == pytest.approx(reference(image).numpy(), abs=1e-6)
