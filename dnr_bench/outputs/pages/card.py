"""One neuron as a picture for papers, slides and readmes: an SVG file that needs no other."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.text_files import printable
from dnr_bench.outputs.pages.page import write_page
from dnr_bench.outputs.pages.run import Side
from dnr_bench.outputs.pictures import Pictures, Tile
from dnr_bench.results.schema import NeuronResult
from dnr_bench.stages.thumbnails import SIZE

#: Pictures in a row, candidates that are shown, and pixels: of the card, of texts beside rows, between rows.
_TILES, _CANDIDATES = 8, 3
_WIDTH, _TEXT, _ROW = 800, 210, SIZE + 28
_FIRST = 102
#: Characters that have room in the title, and beside the pictures of a candidate.
_LABEL, _CANDIDATE = 40, 26


def write_card(side: Side, neuron: str, path: Path) -> Path:
    """Write a neuron's labels, exemplars and best candidates as SVG.

    Raises:
        UsageError: the run has no such neuron.
    """
    found = next((one for one in side.result.neurons if one.name == neuron), None)
    if found is None:
        known = [one.name for one in side.result.neurons]
        told = f"it has {len(known)}, from {known[0]} to {known[-1]}" if known else "it has none"
        raise UsageError(f"the run has no neuron {neuron}: {told}")
    rows = list(_rows(found, side.pictures))
    label = found.answer or found.unscored or ""
    return write_page(
        path,
        "card.svg.j2",
        width=_WIDTH,
        height=_FIRST + _ROW + (26 + _ROW * (len(rows) - 1) if len(rows) > 1 else 0),
        size=SIZE,
        title=printable(f"{found.name}: {label}"),
        name=_fitting(found.name, _LABEL),
        truth=_fitting(found.truth or "", _LABEL),
        label=_fitting(label, _LABEL),
        mark={"right": "✓", "wrong": "✗"}.get(side.state(found), ""),
        rows=rows,
    )


def _fitting(text: str, most: int) -> str:
    text = printable(text)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _rows(neuron: NeuronResult, pictures: Pictures) -> Iterator[dict[str, object]]:
    exemplars = pictures.exemplars.get(neuron.name, ())
    yield {"y": _FIRST, "text": "", "head": "", **_row(exemplars, pictures, left=20, most=11)}
    drawn = pictures.concepts.get(neuron.name, {})
    y = _FIRST + _ROW + 26
    for place, candidate in enumerate(neuron.candidates[:_CANDIDATES]):
        yield {
            "y": y + place * _ROW,
            "head": "" if place else "candidate concepts, and images drawn of them",
            "text": _fitting(candidate.text, _CANDIDATE),
            "score": candidate.score,
            "won": candidate.text in neuron.labels,
            **_row(drawn.get(candidate.text, ()), pictures, left=_TEXT, most=_TILES),
        }


def _row(tiles: Sequence[Tile], pictures: Pictures, left: int, most: int) -> dict[str, object]:
    """Pictures of one strip, each on its own: few of them are shown."""
    if not tiles:
        return {"tiles": []}
    webp = np.frombuffer(pictures.strips[tiles[0].strip].webp, np.uint8)
    strip = cv2.imdecode(webp, cv2.IMREAD_COLOR)
    if strip is None:
        raise UsageError("the pictures of the run cannot be read")
    shown = []
    for place, tile in enumerate(tiles[:most]):
        _, encoded = cv2.imencode(".jpg", strip[:, tile.place * SIZE : (tile.place + 1) * SIZE])
        data = b64encode(encoded.tobytes()).decode()
        shown.append({"x": left + place * (SIZE + 4), "jpeg": data, "value": tile.value})
    return {"tiles": shown}
