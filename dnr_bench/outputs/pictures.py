"""The pictures of a run: taken once from its session, kept beside its result, shown in its page.

The page of a finished run needs nothing else, so that a folder from elsewhere is looked at without running
anything that it names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from math import isfinite
from pathlib import Path
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import cattrs
import cv2
import numpy as np

from dnr_bench.data.exemplars import Exemplar
from dnr_bench.data.images import Box, Image
from dnr_bench.data.neuron import Neuron
from dnr_bench.infra.batches import in_threads
from dnr_bench.infra.digests import Key
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.files import check_regular, writing
from dnr_bench.infra.source import code_of
from dnr_bench.results.schema import NeuronResult, RunResult
from dnr_bench.session import Session, blocks
from dnr_bench.stages.exemplars import probe_view
from dnr_bench.stages.lazy import Lazy
from dnr_bench.stages.thumbnails import MOST, SIZE, Strip, small, stored_strip
from dnr_bench.statistics.histograms import Histogram, histograms

_NAME, _TILES = "pictures.zip", "tiles.json"
_BOX_COLOR = (255, 60, 0)
_STRIP = re.compile(r"[a-z][0-9]{1,9}")


@dataclass(frozen=True)
class Tile:
    """One picture of a strip and its text; `where`: the strip that shows where the neuron fires."""

    strip: str
    place: int
    text: str
    value: float
    where: str | None = None


@dataclass(frozen=True)
class Pictures:
    """strips: by name. exemplars: by neuron. concepts: by neuron and by the candidate that they show.

    histograms: of each neuron's activations on the probing images.
    """

    strips: Mapping[str, Strip] = field(default_factory=dict)
    exemplars: Mapping[str, tuple[Tile, ...]] = field(default_factory=dict)
    concepts: Mapping[str, Mapping[str, tuple[Tile, ...]]] = field(default_factory=dict)
    histograms: Mapping[str, Histogram] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Keep them beside result.json."""
        with writing(folder / _NAME) as file, ZipFile(file, "w") as archive:  # stored: WebP does not shrink
            for name, strip in self.strips.items():
                archive.writestr(f"{name}.webp", strip.webp)
            lengths = {name: strip.n for name, strip in self.strips.items()}
            archive.writestr(_TILES, _listed(lengths, self.exemplars, self.concepts, self.histograms))

    @classmethod
    def read(cls, folder: Path) -> Pictures:
        """Those beside a result, strips being read when they are looked at; none where none were kept.

        Raises:
            UsageError: the file holds something else.
        """
        path = folder / _NAME
        if not path.is_file():
            return cls()
        try:
            check_regular(path)
            archive = ZipFile(path)
            _check_stored(archive, _TILES)
            tiles = json.loads(_content(archive, _TILES))
            lengths = {name: int(n) for name, n in tiles["lengths"].items() if _STRIP.fullmatch(name)}
            for name in (f"{name}.webp" for name in lengths):
                _check_stored(archive, name)
            found = cls(
                _Strips(archive, lengths),
                cattrs.structure(tiles["exemplars"], dict[str, tuple[Tile, ...]]),
                cattrs.structure(tiles["concepts"], dict[str, dict[str, tuple[Tile, ...]]]),
                cattrs.structure(tiles.get("histograms", {}), dict[str, Histogram]),
            )
            if not all(isfinite(one.low) and isfinite(one.high) for one in found.histograms.values()):
                raise ValueError("a histogram has no ends")
        except Exception as error:  # whatever a file may hold, it is no file of pictures
            raise UsageError(
                f"{path} holds no pictures of a run: {str(error) or type(error).__name__}"
            ) from error
        listed = [tile for of_one in found.exemplars.values() for tile in of_one]
        listed += [tile for of_one in found.concepts.values() for tiles in of_one.values() for tile in tiles]
        if any(not _is_there(tile, lengths) for tile in listed):
            raise UsageError(f"{path} holds no pictures of a run: it lacks some that it names")
        return found


def _is_there(tile: Tile, lengths: Mapping[str, int]) -> bool:
    return all(
        0 <= tile.place < lengths.get(name, 0) for name in (tile.strip, tile.where) if name is not None
    )


class _Strips(Mapping[str, Strip]):
    """The strips of a file, one of them in memory at a time."""

    def __init__(self, archive: ZipFile, lengths: Mapping[str, int]) -> None:
        self.archive, self.lengths = archive, lengths

    def __getitem__(self, name: str) -> Strip:
        return Strip(_content(self.archive, f"{name}.webp"), self.lengths[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.lengths)

    def __len__(self) -> int:
        return len(self.lengths)


def _check_stored(archive: ZipFile, name: str) -> None:
    """Refuse a file of an archive that would grow when it is read."""
    info = archive.getinfo(name)
    if info.compress_type != ZIP_STORED or info.file_size != info.compress_size or info.flag_bits & 1:
        raise ValueError(f"{name} is not stored as it is")


def _content(archive: ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except (OSError, BadZipFile, KeyError) as error:
        raise UsageError(f"{archive.filename} holds no pictures of a run: {error}") from error


def _listed(
    lengths: Mapping[str, int],
    exemplars: Mapping[str, Sequence[Tile]],
    concepts: Mapping[str, Mapping[str, Sequence[Tile]]],
    histograms: Mapping[str, Histogram],
) -> str:
    return json.dumps(
        {
            "lengths": dict(lengths),
            "exemplars": {name: [asdict(tile) for tile in of_one] for name, of_one in exemplars.items()},
            "concepts": {
                name: {text: [asdict(tile) for tile in tiles] for text, tiles in of_one.items()}
                for name, of_one in concepts.items()
            },
            "histograms": {name: asdict(histogram) for name, histogram in histograms.items()},
        }
    )


def take_pictures(result: RunResult, session: Session, folder: Path) -> Pictures:
    """Write the pictures of a result into its folder, a few neurons at a time.

    They are made from the probing set and from images of concepts once, and stored: of a run that finds all
    of them no image is decoded and no model is loaded.

    Args:
        result: of the run.
        session: of the run.
        folder: where result.json lies.
    """
    with_exemplars = [n for n in result.neurons if n.exemplars] if "exemplars" in result.stages else []
    shown = {Neuron(n.layer, n.unit): n for n in with_exemplars}
    with writing(folder / _NAME) as file, ZipFile(file, "w") as archive:  # stored: WebP does not shrink
        album = _Album(session, archive, {}, {})
        exemplars: dict[str, tuple[Tile, ...]] = {}
        concepts: dict[str, dict[str, tuple[Tile, ...]]] = {}
        for block in blocks(list(shown)):
            of_block = [shown[neuron] for neuron in block]
            exemplars |= album.exemplars(of_block)
            if "images" in result.stages and session.store.images != "none":  # nothing is drawn for a page
                concepts |= album.concepts(of_block)
        archive.writestr(_TILES, _listed(album.lengths, exemplars, concepts, _histograms(shown, session)))
    return Pictures.read(folder)


def _histograms(shown: Mapping[Neuron, NeuronResult], session: Session) -> dict[str, Histogram]:
    """Of each neuron's activations on all probing images."""
    found: dict[str, Histogram] = {}
    for layer in dict.fromkeys(neuron.layer for neuron in shown):
        members = [neuron for neuron in shown if neuron.layer == layer]
        of_units = histograms(session.activations(layer).values, [neuron.unit for neuron in members])
        found |= {shown[neuron].name: one for neuron, one in zip(members, of_units, strict=True)}
    return found


@dataclass(frozen=True)
class _Album:
    """Strips as they are taken. lengths: of all of them by name. of_concepts: the name of each concept's."""

    session: Session
    archive: ZipFile
    lengths: dict[str, int]
    of_concepts: dict[str, str]

    def exemplars(self, shown: Sequence[NeuronResult]) -> dict[str, tuple[Tile, ...]]:
        """Each neuron's exemplars, as the captioner saw them and where in its image the neuron fires."""
        session = self.session
        settings = {"code": code_of(__name__, session.target), "target": session.target.fingerprint}
        keys: list[Key] = [{**settings, "neuron": n.name, **_seen(n, session)} for n in shown]

        def compute(indices: list[int]) -> Iterable[dict[str, np.ndarray]]:
            return _strips_of([shown[index] for index in indices], session)

        found = {}
        stored = session.store.fill("thumbnails", keys, compute, batch=len(keys))
        for neuron, strips in zip(shown, stored, strict=True):
            n = min(len(neuron.exemplars), MOST)
            name = self._added("e", Strip(strips["exemplars"].tobytes(), n))
            where = self._added("w", Strip(strips["where"].tobytes(), n)) if len(strips["where"]) else None
            said = zip(neuron.exemplars, neuron.captions or ("",) * len(neuron.exemplars), strict=True)
            tiles = [Tile(name, place, text, i.activation, where) for place, (i, text) in enumerate(said)]
            found[neuron.name] = tuple(tiles[:MOST])
        return found

    def concepts(self, shown: Sequence[NeuronResult]) -> dict[str, dict[str, tuple[Tile, ...]]]:
        """Each neuron's candidates with their images, those first that activate the neuron most."""
        found: dict[str, dict[str, tuple[Tile, ...]]] = {neuron.name: {} for neuron in shown}
        having: dict[str, list[NeuronResult]] = {}
        for neuron in shown:
            for candidate in neuron.candidates:
                having.setdefault(candidate.text, []).append(neuron)
        for rendering in self.session.draw(list(having)):
            text = rendering.concept
            if text not in self.of_concepts:
                self.of_concepts[text] = self._added("c", self._strip_of(text))
            for neuron in having[text]:
                values = rendering.activations[neuron.layer][:, neuron.unit]
                order = np.argsort(-values[:MOST], kind="stable")
                tiles = [Tile(self.of_concepts[text], int(i), text, float(values[i])) for i in order]
                found[neuron.name][text] = tuple(tiles)
        return found

    def _strip_of(self, concept: str) -> Strip:
        drawn = self.session.drawn(concept)
        return stored_strip(self.session.store, drawn.names, lambda: drawn.pixels)

    def _added(self, kind: str, strip: Strip) -> str:
        name = f"{kind}{len(self.lengths)}"
        self.archive.writestr(f"{name}.webp", strip.webp)
        self.lengths[name] = strip.n
        return name


def _seen(neuron: NeuronResult, session: Session) -> dict[str, object]:
    """What the pictures of a neuron's exemplars depend on, beside the target."""
    views = [probe_view(session.probe, item.index, item.box) for item in neuron.exemplars]
    return {"exemplars": [view.name for view in views]}


def _strips_of(shown: Sequence[NeuronResult], session: Session) -> Iterator[dict[str, np.ndarray]]:
    """The exemplars of neurons, and the same images bright where each neuron fires.

    Every image is decoded once, for the network, for itself and for its crops.
    """
    boxes: dict[int, set[Box]] = {}
    for item in (item for neuron in shown for item in neuron.exemplars):
        boxes.setdefault(item.index, set()).update([] if item.box is None else [item.box])
    seen: dict[int, _Small] = {}

    def load(index: int) -> Image:
        image = session.probe.images[index]
        seen[index] = _Small.of(image, boxes[index])
        return image

    maps = _maps(shown, session, load)
    rest = [index for index in boxes if index not in seen]
    for _ in in_threads(lambda index: load(index).shape, rest):
        pass
    for neuron in shown:
        items, heats = neuron.exemplars, maps.get(neuron.name, [])
        where = [seen[i.index].lit(heat, i.box) for i, heat in zip(items, heats, strict=bool(heats))]
        yield {
            "exemplars": _bytes_of(Strip.of([seen[item.index].shown(item) for item in items])),
            "where": _bytes_of(Strip.of(where)) if where else np.zeros(0, np.uint8),
        }


@dataclass(frozen=True)
class _Small:
    """An image and its crops at the size of pictures; height and width are those of the image itself."""

    whole: Image
    crops: Mapping[Box, Image]
    height: int
    width: int

    @classmethod
    def of(cls, image: Image, boxes: Iterable[Box]) -> _Small:
        """Of an image that is let go afterwards."""
        crops = {box: small(image[box[1] : box[3], box[0] : box[2]]) for box in boxes}
        return cls(small(image), crops, *image.shape[:2])

    def shown(self, item: Exemplar) -> Image:
        """The image of an exemplar, or its crop."""
        return self.whole if item.box is None else self.crops[item.box]

    def lit(self, heat: np.ndarray, box: Box | None) -> Image:
        """The image, brighter where the neuron fires, with the crop's box."""
        strength = np.maximum(heat, 0).astype(np.float32)
        strength = cv2.resize(strength / max(float(strength.max()), 1e-9), (SIZE, SIZE))[..., None]
        shown: Image = (self.whole * (0.35 + 0.65 * strength)).astype(np.uint8)
        if box is not None:
            x, y = SIZE / self.width, SIZE / self.height
            left, top, right, bottom = (
                round(edge * scale) for edge, scale in zip(box, (x, y) * 2, strict=True)
            )
            cv2.rectangle(shown, (left, top), (max(right - 1, left), max(bottom - 1, top)), _BOX_COLOR, 1)
        return shown


def _maps(
    shown: Sequence[NeuronResult], session: Session, load: Callable[[int], Image]
) -> dict[str, list[np.ndarray]]:
    """Where in the images of its exemplars each neuron of a spatial layer fires."""
    found: dict[str, list[np.ndarray]] = {}
    spatial = {layer.name for layer in session.layers if layer.spatial}
    for layer in dict.fromkeys(neuron.layer for neuron in shown if neuron.layer in spatial):
        members = [neuron for neuron in shown if neuron.layer == layer]
        items = [(neuron, item.index) for neuron in members for item in neuron.exemplars]
        needed = sorted({index for _, index in items})
        place = {index: number for number, index in enumerate(needed)}
        images = Lazy(len(needed), partial(_numbered, load, needed))
        maps = session.target.maps(images, layer, [(place[index], neuron.unit) for neuron, index in items])
        for (neuron, _), heat in zip(items, maps, strict=True):
            found.setdefault(neuron.name, []).append(heat)
    return found


def _numbered(load: Callable[[int], Image], numbers: Sequence[int], place: int) -> Image:
    return load(numbers[place])


def _bytes_of(strip: Strip) -> np.ndarray:
    return np.frombuffer(strip.webp, np.uint8)
