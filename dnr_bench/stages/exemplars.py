"""Step 1 of the method, second half: each neuron's highest images and attention crops (DnD 3.1, A.1.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from weakref import WeakKeyDictionary

import cv2
import numpy as np
from jaxtyping import Float

from dnr_bench.data.exemplars import Activations, Exemplar, Exemplars
from dnr_bench.data.images import Box, Image, ProbeSet, View
from dnr_bench.data.neuron import Neuron
from dnr_bench.infra.digests import Key
from dnr_bench.infra.ranges import check_range
from dnr_bench.infra.source import code_of
from dnr_bench.infra.store import Store
from dnr_bench.infra.work import Work
from dnr_bench.protocols import Target
from dnr_bench.stages.lazy import Lazy, Recent

_codes: WeakKeyDictionary[Sequence[Image], str] = WeakKeyDictionary()


@dataclass(frozen=True)
class ExemplarSettings:
    """n: exemplars per neuron (K); crops_per_image: alpha of DnD A.1.1 (0: no crops); max_iou: eta.

    max_iou_with_image: a crop that covers as much of the image says nothing new. DnD's code has this rule,
    with 0.8; its paper has not (1).
    """

    n: int
    crops_per_image: int
    max_iou: float
    max_iou_with_image: float

    def __post_init__(self) -> None:
        check_range(1, 10_000, n=self.n)
        check_range(0, 1000, crops_per_image=self.crops_per_image)
        check_range(0, 1, max_iou=self.max_iou, max_iou_with_image=self.max_iou_with_image)


def find_exemplars(
    store: Store,
    target: Target,
    probe: ProbeSet,
    activations: Mapping[str, Activations],
    neurons: Sequence[Neuron],
    settings: ExemplarSettings,
) -> list[Exemplars]:
    """The exemplars of each neuron; crops of all neurons share the target's batches."""
    code = code_of(__name__, target, probe.images)

    def key(neuron: Neuron) -> Key:
        values = activations[neuron.layer].digest
        return {"code": code, "activations": values, "unit": neuron.unit, **asdict(settings)}

    def highest(neuron: Neuron) -> _Highest:
        of_layer = activations[neuron.layer]
        column = of_layer.values[:, neuron.unit]
        items = [Exemplar(index, None, float(column[index])) for index in top_images(column, settings.n)]
        return _Highest(neuron, of_layer.layer.spatial, items)

    work = Work("target", target, partial(_search, probe, settings))
    (stored,) = store.fill_groups("exemplars", [neurons], key, work, item=highest)
    return [
        Exemplars(neuron, tuple(Exemplar(index, tuple(box) if box else None, a) for index, box, a in items))
        for neuron, items in zip(neurons, stored, strict=True)
    ]


def views_of(probe: ProbeSet, exemplars: Exemplars) -> list[View]:
    """The view of each exemplar; a crop shows its part of the image at the image's own resolution."""
    return [probe_view(probe, item.index, item.box, item.activation) for item in exemplars.items]


def probe_view(probe: ProbeSet, index: int, box: Box | None = None, activation: float | None = None) -> View:
    """A probing image or a part of it, decoded when its pixels are asked for."""
    name = f"{probe.ids[index]} {'' if box is None else list(box)} {_code(probe.images)}"
    caption = probe.words[index] if probe.words is not None else None

    return View(name, partial(_part, probe, index, box), caption, activation)


def _part(probe: ProbeSet, index: int, box: Box | None) -> Image:
    image = probe.images[index]
    return image if box is None else cut(image, box)


def _code(images: Sequence[Image]) -> str:
    """The code that decodes, blurs or corrupts images: their ids do not tell of it."""
    try:
        return _codes[images]
    except (KeyError, TypeError):  # a list cannot be remembered
        found = code_of(__name__, images)
    with suppress(TypeError):
        _codes[images] = found
    return found


def cut(image: Image, box: Box) -> Image:
    """A rectangle of an image."""
    left, top, right, bottom = box
    return np.ascontiguousarray(image[top:bottom, left:right])


def attention_boxes(
    activation_map: Float[np.ndarray, "map_height map_width"],
    image_size: tuple[int, int],
    seen: tuple[float, float, float, float],
    n: int,
    max_iou: float,
    max_iou_with_image: float,
) -> list[Box]:
    """Boxes around what a unit attends to, largest first, at most `n` (DnD A.1.1).

    The map covers the part `seen` (left, top, right, bottom) of an image of (height, width). It is scaled
    to its own range and resized to that part; Otsu's threshold and outer contours give the boxes, of which
    one is dropped that overlaps a kept one by an IoU above `max_iou`, or is nearly the whole image
    (`max_iou_with_image`; with 1 none is, but for the image itself).
    """
    height, width = image_size
    left, top, right, bottom = _inside(seen, height, width)
    if np.ptp(activation_map) == 0 or right <= left or bottom <= top:
        return []
    scaled = cv2.normalize(activation_map, np.zeros(0), 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    resized = cv2.resize(scaled, (right - left, bottom - top), interpolation=cv2.INTER_CUBIC)
    _, high = cv2.threshold(resized, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    contours, _ = cv2.findContours(high, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    rectangles = [cv2.boundingRect(contour) for contour in contours]
    boxes = [(x + left, y + top, x + w + left, y + h + top) for x, y, w, h in rectangles]
    whole = (0, 0, width, height)
    kept: list[Box] = []
    for box in sorted(boxes, key=lambda box: (-_area(box), box)):
        if iou(box, whole) < max_iou_with_image and all(iou(box, other) <= max_iou for other in kept):
            kept.append(box)
    return kept[:n]


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    overlap = _area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    union = _area(a) + _area(b) - overlap
    return overlap / union if union else 0.0


def never_fires(activations: Activations, unit: int) -> bool:
    """Whether a unit has one and the same activation on every probing image (dead)."""
    column = activations.values[:, unit]
    return bool(np.ptp(column) == 0)


def top_images(column: Float[np.ndarray, " images"], n: int) -> list[int]:
    """The indices of the n highest values, highest first; the earlier image wins a tie."""
    return [int(i) for i in np.argsort(-column, kind="stable")[:n]]


@dataclass(frozen=True)
class _Highest:
    """The highest images of a neuron; `spatial`: whether its layer has maps."""

    neuron: Neuron
    spatial: bool
    images: Sequence[Exemplar]


def _search(
    probe: ProbeSet, settings: ExemplarSettings, target: Target, neurons: Sequence[_Highest]
) -> list[list[list[object]]]:
    """The exemplars of each neuron, as they are stored; crops of all neurons share batches."""
    images = Recent(probe.images)
    crops: list[list[tuple[int, Box]]] = [[] for _ in neurons]
    for name in dict.fromkeys(n.neuron.layer for n in neurons):
        of_layer = [i for i, n in enumerate(neurons) if n.neuron.layer == name and n.spatial]
        if of_layer and settings.crops_per_image > 0:
            pairs = [(item.index, neurons[i].neuron.unit) for i in of_layer for item in neurons[i].images]
            owners = [i for i in of_layer for _ in neurons[i].images]
            boxes = _boxes(target, images, name, pairs, settings)
            for owner, (index, _), found in zip(owners, pairs, boxes, strict=True):
                crops[owner] += [(index, box) for box in found]
    crop_activations = _crop_activations(target, images, [n.neuron for n in neurons], crops)
    result: list[list[list[object]]] = []
    for i, n in enumerate(neurons):
        items = [
            *n.images,
            *(Exemplar(index, box, a) for (index, box), a in zip(crops[i], crop_activations[i], strict=True)),
        ]
        kept = sorted(items, key=lambda item: -item.activation)[: settings.n]
        result.append([[item.index, item.box, item.activation] for item in kept])
    return result


def _boxes(
    target: Target,
    images: Recent,
    layer: str,
    pairs: Sequence[tuple[int, int]],
    settings: ExemplarSettings,
) -> list[list[Box]]:
    needed = list(dict.fromkeys(index for index, _ in pairs))
    order = {index: position for position, index in enumerate(needed)}
    shown = Lazy(len(needed), lambda position: images[needed[position]])
    maps = target.maps(shown, layer, [(order[index], unit) for index, unit in pairs])
    result = []
    for (index, _), activation_map in zip(pairs, maps, strict=True):
        size = images.sizes[index]
        seen = target.seen_box(*size)
        limits = (settings.crops_per_image, settings.max_iou, settings.max_iou_with_image)
        result.append(attention_boxes(activation_map, size, seen, *limits))
    return result


def _crop_activations(
    target: Target,
    images: Recent,
    neurons: Sequence[Neuron],
    crops: Sequence[Sequence[tuple[int, Box]]],
) -> list[list[float]]:
    """The activation of each neuron on its crops; a crop that several neurons share is run once."""
    result: list[list[float]] = [[0.0] * len(of_neuron) for of_neuron in crops]
    for layer in dict.fromkeys(n.layer for n in neurons):
        members = [i for i, n in enumerate(neurons) if n.layer == layer]
        unique = {crop for i in members for crop in crops[i]}
        if unique:
            places = sorted(unique)
            pixels = Lazy(len(places), partial(_crop, images, places))
            in_order = {crop: row for row, crop in enumerate(places)}
            values = target.run(pixels, [layer])[layer]
            for i in members:
                result[i] = [float(values[in_order[crop], neurons[i].unit]) for crop in crops[i]]
    return result


def _crop(images: Recent, places: Sequence[tuple[int, Box]], place: int) -> Image:
    index, box = places[place]
    return cut(images[index], box)


def _inside(seen: tuple[float, float, float, float], height: int, width: int) -> Box:
    left, top, right, bottom = (round(edge) for edge in seen)
    return max(left, 0), max(top, 0), min(right, width), min(bottom, height)


def _area(box: Box) -> int:
    return max(box[2] - box[0], 0) * max(box[3] - box[1], 0)
