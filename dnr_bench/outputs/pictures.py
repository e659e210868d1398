"""The pictures of a run: taken once from its session, kept beside its result, shown in its page.

The page of a finished run needs nothing else, so that a folder from elsewhere is looked at without running
anything that it names.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cattrs
import cv2
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from dnr_bench.data.exemplars import Exemplars
from dnr_bench.data.images import Box, Image
from dnr_bench.data.neuron import Neuron
from dnr_bench.infra.errors import RunError, UsageError
from dnr_bench.infra.files import check_regular
from dnr_bench.results.schema import NeuronResult, RunResult
from dnr_bench.session import Session

_NAME = "pictures.safetensors"
#: Width and height of the pictures, in pixels.
SIZE = 64
#: A WebP is at most 16,383 pixels wide.
MOST = 255
_QUALITY = 80
_SPATIAL_COLOR = (255, 60, 0)
_STRIP = re.compile(r"[a-z][0-9]{1,9}")


@dataclass(frozen=True)
class Strip:
    """Pictures side by side in one WebP, and how many: a page of a thousand neurons stays light."""

    webp: bytes
    n: int

    @classmethod
    def of(cls, images: Sequence[Image]) -> Strip:
        """The first `MOST` images, each brought to `SIZE`."""
        row = np.concatenate([_square(image) for image in images[:MOST]], axis=1)
        done, encoded = cv2.imencode(".webp", row[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, _QUALITY])
        if not done:
            raise RunError("OpenCV cannot write WebP")
        return cls(encoded.tobytes(), min(len(images), MOST))

    @property
    def data(self) -> str:
        """For an address within a page."""
        return base64.b64encode(self.webp).decode()


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
    """strips: by name. exemplars: by neuron. concepts: by neuron and by the candidate that they show."""

    strips: Mapping[str, Strip] = field(default_factory=dict)
    exemplars: Mapping[str, tuple[Tile, ...]] = field(default_factory=dict)
    concepts: Mapping[str, Mapping[str, tuple[Tile, ...]]] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Keep them beside result.json."""
        tiles = {
            "lengths": {name: strip.n for name, strip in self.strips.items()},
            "exemplars": {name: [asdict(tile) for tile in of_one] for name, of_one in self.exemplars.items()},
            "concepts": {
                name: {text: [asdict(tile) for tile in tiles] for text, tiles in of_one.items()}
                for name, of_one in self.concepts.items()
            },
        }
        bytes_of = {name: np.frombuffer(strip.webp, np.uint8) for name, strip in self.strips.items()}
        partial = folder / f"{_NAME}.partial"
        try:
            save_file(bytes_of, partial, {"tiles": json.dumps(tiles)})
            partial.replace(folder / _NAME)
        except (OSError, SafetensorError) as error:
            raise RunError(f"cannot write {folder / _NAME}: {error}") from error

    @classmethod
    def read(cls, folder: Path) -> Pictures:
        """Those beside a result; none where none were kept.

        Raises:
            UsageError: the file holds something else.
        """
        path = folder / _NAME
        if not path.is_file():
            return cls()
        try:
            check_regular(path)
            with safe_open(path, "numpy") as file:
                tiles = json.loads((file.metadata() or {})["tiles"])
                lengths = {name: int(n) for name, n in tiles["lengths"].items() if _STRIP.fullmatch(name)}
                strips = {name: Strip(file.get_tensor(name).tobytes(), n) for name, n in lengths.items()}
            found = cls(
                strips,
                cattrs.structure(tiles["exemplars"], dict[str, tuple[Tile, ...]]),
                cattrs.structure(tiles["concepts"], dict[str, dict[str, tuple[Tile, ...]]]),
            )
        except Exception as error:  # whatever a file may hold, it is no file of pictures
            raise UsageError(
                f"{path} holds no pictures of a run: {str(error) or type(error).__name__}"
            ) from error
        listed = [tile for of_one in found.exemplars.values() for tile in of_one]
        listed += [tile for of_one in found.concepts.values() for tiles in of_one.values() for tile in tiles]
        if any({tile.strip, tile.where or tile.strip} - strips.keys() for tile in listed):
            raise UsageError(f"{path} holds no pictures of a run: it lacks some that it names")
        return found


def take_pictures(result: RunResult, session: Session) -> Pictures:
    """The pictures of a result, from its probing set and from the store.

    Args:
        result: of the run.
        session: of the run.
    """
    strips: dict[str, Strip] = {}
    shown = [n for n in result.neurons if n.exemplars] if "exemplars" in result.stages else []
    drawn = (
        session.draw(sorted({c.text for n in shown for c in n.candidates}))
        if "images" in result.stages
        else {}
    )
    concepts = {text: f"c{number}" for number, text in enumerate(drawn)}
    for text, name in concepts.items():
        strips[name] = Strip.of(list(drawn[text].images))

    def tiles_of(text: str, neuron: Neuron) -> tuple[Tile, ...]:
        """A concept's images, those first that activate the neuron most."""
        activations = drawn[text].activations[neuron.layer][:, neuron.unit]
        order = np.argsort(-activations[:MOST], kind="stable")
        return tuple(Tile(concepts[text], int(i), text, float(activations[i])) for i in order)

    return Pictures(
        strips,
        _exemplars(shown, session, strips),
        {
            n.name: {
                c.text: tiles_of(c.text, Neuron(n.layer, n.unit)) for c in n.candidates if c.text in drawn
            }
            for n in shown
        },
    )


def _exemplars(
    shown: Sequence[NeuronResult], session: Session, strips: dict[str, Strip]
) -> dict[str, tuple[Tile, ...]]:
    """Each neuron's exemplars, as the captioner saw them and where in its image the neuron fires."""
    seen = {n.name: Exemplars(Neuron(n.layer, n.unit), n.exemplars) for n in shown}
    maps = _maps(session, list(seen.values())) if seen else {}
    found = {}
    for neuron in shown:
        exemplars, name = seen[neuron.name], f"e{len(strips)}"
        strips[name], where = Strip.of([view.pixels for view in session.views(exemplars)]), None
        if exemplars.neuron in maps:
            where, images = f"w{len(strips)}", session.probe.images
            overlays = zip(exemplars.items, maps[exemplars.neuron], strict=True)
            strips[where] = Strip.of([_overlay(images[i.index], heat, i.box) for i, heat in overlays])
        said = zip(exemplars.items, neuron.captions or ("",) * len(exemplars.items), strict=True)
        tiles = [Tile(name, place, caption, i.activation, where) for place, (i, caption) in enumerate(said)]
        found[neuron.name] = tuple(tiles[:MOST])
    return found


def _maps(session: Session, seen: Sequence[Exemplars]) -> dict[Neuron, list[np.ndarray]]:
    """Where in the images of its exemplars each neuron of a spatial layer fires."""
    found: dict[Neuron, list[np.ndarray]] = {}
    shown = {exemplars.neuron: exemplars for exemplars in seen}
    spatial = {layer.name for layer in session.layers if layer.spatial}
    for layer in dict.fromkeys(neuron.layer for neuron in shown if neuron.layer in spatial):
        members = [neuron for neuron in shown if neuron.layer == layer]
        items = [(neuron, item.index) for neuron in members for item in shown[neuron].items]
        needed = sorted({index for _, index in items})
        place = {index: number for number, index in enumerate(needed)}
        maps = session.target.maps(
            [session.probe.images[index] for index in needed],
            layer,
            [(place[index], neuron.unit) for neuron, index in items],
        )
        for (neuron, _), heat in zip(items, maps, strict=True):
            found.setdefault(neuron, []).append(heat)
    return found


def _overlay(image: Image, heat: np.ndarray, box: Box | None) -> Image:
    """The image, brighter where the neuron fires, with the crop's box."""
    height, width = image.shape[:2]
    strength = np.maximum(heat, 0).astype(np.float32)
    strength = cv2.resize(strength / max(float(strength.max()), 1e-9), (width, height))[..., None]
    shown: Image = (image * (0.35 + 0.65 * strength)).astype(np.uint8)
    if box is not None:
        left, top, right, bottom = box
        cv2.rectangle(shown, (left, top), (right - 1, bottom - 1), _SPATIAL_COLOR, max(1, width // 64))
    return shown


def _square(image: Image) -> Image:
    smaller = image.shape[0] > SIZE or image.shape[1] > SIZE
    resized: Image = cv2.resize(
        image, (SIZE, SIZE), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    )
    return resized
