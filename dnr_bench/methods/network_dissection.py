"""Network Dissection (Bau et al. 2017): the concept whose masks a unit's high activations overlap most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float
from tqdm import tqdm

from dnr_bench.data.explanation import Explanation, ScoredCandidate
from dnr_bench.data.images import ConceptMasks, ProbeSet
from dnr_bench.data.neuron import Layer, Neuron
from dnr_bench.infra.digests import Key
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.ranges import check_range
from dnr_bench.infra.source import code_of
from dnr_bench.methods.labeling import LabelSettings, label_each
from dnr_bench.protocols import Target
from dnr_bench.session import Session

_BATCH = 32
#: Thresholds look at no more places of a unit's maps than so many, chosen at random, the same for all units.
_MOST_PLACES = 4_000_000


class NetworkDissection:
    """quantile: the share of all places of a unit's maps that count as high (top 0.5% in the paper).

    min_iou: a unit whose best concept overlaps less gets no label (0.04 in the paper). top: concepts that
    are kept of each unit. Overlap is counted over all probing images that were annotated for a concept's
    category, and within the part of an image that reaches the network.
    """

    def __init__(self, quantile: float, min_iou: float, top: int, labels: LabelSettings) -> None:
        if not 0 < quantile < 1:
            raise UsageError(f"quantile={quantile} must lie in 0..1, both excluded")
        check_range(0, 1, min_iou=min_iou)
        check_range(1, 100_000, top=top)
        self.quantile, self.min_iou, self.top, self.labels = quantile, min_iou, top, labels

    def check(self, neurons: Sequence[Neuron], layers: Sequence[Layer]) -> None:
        """Every neuron must be of a layer of feature maps."""
        flat = sorted({layer.name for layer in layers if not layer.spatial} & {n.layer for n in neurons})
        if flat:
            maps = ", ".join(layer.name for layer in layers if layer.spatial)
            raise UsageError(
                f"method=network_dissection compares feature maps with masks, and {flat[0]!r} has none;"
                f" layers with maps are {maps}"
            )

    def explain(self, neurons: Sequence[Neuron], session: Session) -> list[Explanation]:
        """One explanation per neuron, in order; scores are IoUs."""
        masks = concept_masks(session.probe)
        tables = {
            layer: self._ious(layer, session, masks) for layer in dict.fromkeys(n.layer for n in neurons)
        }

        def concepts_of(neuron: Neuron) -> tuple[list[ScoredCandidate], str | None]:
            ious = tables[neuron.layer][neuron.unit]
            order = np.argsort(-ious, kind="stable")[: self.top]
            found = [ScoredCandidate(masks.names[i], "method", float(ious[i])) for i in order]
            return found, f"no concept's IoU reaches {self.min_iou}" if ious.max() < self.min_iou else None

        return label_each(neurons, concepts_of, self.labels, session)

    def _ious(self, layer: str, session: Session, masks: ConceptMasks) -> Float[np.ndarray, "units concepts"]:
        key: Key = {
            "code": code_of(__name__, session.target, session.probe.images, masks.load),
            "activations": session.activations(layer).digest,
            "masks": masks.version,
            "quantile": self.quantile,
        }

        def compute(_: list[int]) -> Iterator[dict[str, np.ndarray]]:
            target, probe = session.target, session.probe
            units = session.activations(layer).layer.units
            high = thresholds(target, probe, layer, units, self.quantile)
            yield {"ious": overlaps(target, probe, layer, high, masks)}

        (entry,) = session.store.fill("network_dissection", [key], compute)
        found: np.ndarray = entry["ious"]
        return found


def concept_masks(probe: ProbeSet) -> ConceptMasks:
    """The concepts of a set; where it has only foregrounds and classes, a class is where foregrounds are."""
    if probe.concepts is not None:
        return probe.concepts
    masks, classes = probe.masks, probe.classes
    if masks is None or classes is None:
        raise UsageError(
            f"method=network_dissection needs masks of concepts, and {probe.name} has none: choose"
            " probe=broden, or shapes"
        )
    names = list(dict.fromkeys(classes))
    number = {name: index for index, name in enumerate(names)}
    return ConceptMasks(
        names=names,
        categories=["class"] * len(names),
        load=lambda index: (np.asarray([number[classes[index]]]), np.asarray(masks[index])[None]),
        annotated=lambda _: frozenset(["class"]),
        version="foregrounds-1",
    )


def thresholds(
    target: Target, probe: ProbeSet, layer: str, units: int, quantile: float, most: int = _MOST_PLACES
) -> Float[np.ndarray, " units"]:
    """The activation above which lies the share `quantile` of all places of each unit's maps.

    Exact up to `most` places in all; of more, a random share of each image's places stands for the rest, so
    that memory does not grow with the number of images. Only the highest values are kept as images pass.
    """
    kept: list[np.ndarray] = []
    n_kept, keep = 0, 1
    rng = np.random.default_rng(47)
    for _, _, maps in _maps(target, probe, layer, units, "thresholds"):
        flat = maps.transpose(1, 0, 2, 3).reshape(units, -1)
        n_places = flat.shape[1] // len(maps) * len(probe.images)  # all maps have one size
        if n_places > most:
            flat = flat[:, rng.random(flat.shape[1]) < most / n_places]
        keep = max(int(np.ceil(quantile * min(n_places, most))), 1)
        kept.append(flat)
        n_kept += flat.shape[1]
        if n_kept > 2 * keep:
            kept = [_largest(np.concatenate(kept, axis=1), keep)]
            n_kept = keep
    lowest: np.ndarray = _largest(np.concatenate(kept, axis=1), keep).min(axis=1)
    return lowest


def _largest(values: Float[np.ndarray, "units n"], keep: int) -> Float[np.ndarray, "units kept"]:
    """The `keep` largest values of each row, or all where there are fewer; in any order."""
    if values.shape[1] <= keep:
        return values
    return np.partition(values, values.shape[1] - keep, axis=1)[:, -keep:]


def overlaps(
    target: Target,
    probe: ProbeSet,
    layer: str,
    high: Float[np.ndarray, " units"],
    masks: ConceptMasks,
) -> Float[np.ndarray, "units concepts"]:
    """The IoU of each unit's places above its threshold with each concept's masks, over all images."""
    n_units, n_concepts = len(high), len(masks.names)
    categories = list(dict.fromkeys(masks.categories))
    kind = np.asarray([categories.index(category) for category in masks.categories], int)
    shared, concept_area = np.zeros((n_units, n_concepts)), np.zeros(n_concepts)
    unit_area = np.zeros((n_units, len(categories)))
    for indices, sizes, maps in _maps(target, probe, layer, n_units, "overlaps"):
        for index, size, of_image in zip(indices, sizes, maps, strict=True):
            numbers, shown = masks.load(index)
            annotated = masks.annotated(index)
            if not annotated:
                continue
            seen = _seen(shown, size, target)
            active = _resized(of_image, seen.shape[1:]) > high[:, None, None]
            flat = active.reshape(n_units, -1).astype(np.float32)
            areas = flat.sum(axis=1)
            for category in annotated & set(categories):
                unit_area[:, categories.index(category)] += areas
            if len(numbers):
                planes = seen.reshape(len(numbers), -1).astype(np.float32)
                shared[:, numbers] += flat @ planes.T
                concept_area[numbers] += planes.sum(axis=1)
    union = unit_area[:, kind] + concept_area - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _maps(
    target: Target, probe: ProbeSet, layer: str, units: int, what: str
) -> Iterator[tuple[Sequence[int], list[tuple[int, int]], Float[np.ndarray, "images units h w"]]]:
    """A few images at a time: their places, their heights and widths, and the maps of all units."""
    n_images = len(probe.images)
    with tqdm(total=n_images, desc=what, unit="image", leave=False, disable=None) as bar:
        for first in range(0, n_images, _BATCH):
            indices = range(first, min(first + _BATCH, n_images))
            pairs = [(row, unit) for row in range(len(indices)) for unit in range(units)]
            images = [probe.images[i] for i in indices]
            found = target.maps(images, layer, pairs)
            sizes = [(image.shape[0], image.shape[1]) for image in images]
            yield indices, sizes, np.stack(found).reshape(len(indices), units, *found[0].shape)
            bar.update(len(indices))


def _seen(
    shown: Bool[np.ndarray, "shown h w"], size: tuple[int, int], target: Target
) -> Bool[np.ndarray, "shown seen_h seen_w"]:
    """The part of an image's masks that reaches the network, at the masks' own resolution."""
    height, width = size
    left, top, right, bottom = target.seen_box(height, width)
    y, x = shown.shape[1] / height, shown.shape[2] / width
    rows = slice(max(round(top * y), 0), max(round(bottom * y), 1))
    columns = slice(max(round(left * x), 0), max(round(right * x), 1))
    return shown[:, rows, columns]


def _resized(
    maps: Float[np.ndarray, "units h w"], size: tuple[int, ...]
) -> Float[np.ndarray, "units new_h new_w"]:
    """Bilinear; OpenCV takes few channels at a time."""
    height, width = size
    return np.stack([cv2.resize(one, (width, height), interpolation=cv2.INTER_LINEAR) for one in maps])
