"""One HTML page for a run, and one for a multirun: pictures, candidates, scores; everything is escaped."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from dnr_bench.data.exemplars import Exemplars
from dnr_bench.data.images import Box, Image
from dnr_bench.data.neuron import Neuron
from dnr_bench.infra.errors import RunError
from dnr_bench.results.comparison import (
    ComparisonRow,
    Job,
    Outcome,
    changed_labels,
    grouped,
    records_of,
    varied_names,
)
from dnr_bench.results.schema import MetricResult, NeuronResult, RunResult
from dnr_bench.session import Session

#: Width and height of the pictures, in pixels.
SIZE = 64
#: A WebP is at most 16,383 pixels wide.
MOST = 255
_QUALITY = 80
_SURE = 0.05
_SPATIAL_COLOR = (255, 60, 0)


@dataclass(frozen=True)
class Strip:
    """Pictures side by side in one file, and where each is: a page of a thousand neurons stays light."""

    name: str
    data: str
    n: int

    @classmethod
    def of(cls, name: str, images: Sequence[Image]) -> Strip:
        """The first `MOST` images, each brought to `SIZE`, as one WebP."""
        row = np.concatenate([_square(image) for image in images[:MOST]], axis=1)
        done, encoded = cv2.imencode(".webp", row[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, _QUALITY])
        if not done:
            raise RunError(f"{name}: OpenCV cannot write WebP")
        return cls(name, base64.b64encode(encoded.tobytes()).decode(), min(len(images), MOST))


@dataclass(frozen=True)
class Tile:
    """One picture of a strip with what is to be said of it."""

    strip: str
    place: int
    text: str
    value: float
    where: str | None = None


def write_report(result: RunResult, session: Session, folder: Path) -> Path:
    """Write report.html beside result.json.

    Args:
        result: of the run.
        session: of the run, or one like it; pictures come from its probing set and from the store.
        folder: of the run.
    """
    gallery = _Gallery(session, result)
    right = next((name for name, metric in result.metrics.items() if metric.unit == "correct"), None)
    neurons = [_shown_neuron(neuron, gallery, right) for neuron in result.neurons]
    metrics = [_shown_metric(name, metric) for name, metric in result.metrics.items()]
    names = [name for name, metric in result.metrics.items() if metric.item_kind == "neuron"]
    return _write(
        folder / "report.html",
        "run.html.j2",
        title=_title(folder),
        size=SIZE,
        neurons=neurons,
        layers=list(dict.fromkeys(neuron.layer for neuron in result.neurons)),
        sortable=names,
        metrics=metrics,
        beaten=result.beaten_by_constants,
        tables=[table for table in result.tables if table.rows],
        strips=gallery.strips,
        result=result,
    )


@contextmanager
def without_page(name: str) -> Iterator[None]:
    """Turn an error in making a page into a warning; the result is kept."""
    try:
        yield
    except Exception as error:
        print(f"warning: there is no {name}: {type(error).__name__}: {error}", file=sys.stderr)


def write_comparison(rows: Sequence[ComparisonRow], jobs: Sequence[Job], folder: Path) -> Path:
    """Write comparison.html of a multirun: metrics of its jobs side by side, and which labels changed."""
    names = varied_names(rows)
    better = {
        name: metric.higher_is_better
        for job in jobs
        if job.result is not None
        for name, metric in job.result.metrics.items()
    }
    metrics = list(dict.fromkeys(name for row in rows for name in row.metrics))
    first, *others = grouped(jobs)
    changes = [
        {**change, "settings": " ".join(f"{k}={group[0].overrides.get(k, '')}" for k in names if k != "seed")}
        for group in others
        for change in changed_labels(records_of(first), records_of(group))
    ]
    return _write(
        folder / "comparison.html",
        "sweep.html.j2",
        title=folder.name,
        names=names,
        rows=rows,
        metrics=[{"name": name, "rows": _compared(rows, names, name, better.get(name))} for name in metrics],
        failures=[row.status for row in rows if row.status != "finished"],
        changes=changes,
    )


def _compared(
    rows: Sequence[ComparisonRow], names: Sequence[str], metric: str, higher_is_better: bool | None
) -> list[dict[str, object]]:
    """One metric of all rows, each with the place of its interval between the lowest and the highest."""
    having = [row for row in rows if metric in row.metrics]
    ends = [
        v for row in having for v in (row.metrics[metric].low, row.metrics[metric].high) if np.isfinite(v)
    ]
    start, span = (min(ends), max(max(ends) - min(ends), 1e-9)) if ends else (0.0, 1.0)
    found = []
    for row in having:
        value, gain, p = (
            row.metrics[metric],
            row.differences.get(metric),
            row.p_holm.get(metric, float("nan")),
        )
        known = np.isfinite(value.low) and np.isfinite(value.high)
        sure = gain is not None and higher_is_better is not None and p < _SURE
        found.append(
            {
                "settings": [row.overrides.get(name, "") for name in names],
                "mean": value.mean,
                "low": value.low,
                "high": value.high,
                "place": (100 * (value.low - start) / span, 100 * (value.high - value.low) / span)
                if known
                else None,
                "difference": gain,
                "p": p,
                "style": ("better" if (gain.mean > 0) == higher_is_better else "worse")
                if sure and gain is not None
                else "",
            }
        )
    return found


class _Gallery:
    """Looks the pictures of a result up; each concept's images are one strip for all its neurons."""

    def __init__(self, session: Session, result: RunResult) -> None:
        self.session = session
        self.strips: dict[str, Strip] = {}
        shown = [n for n in result.neurons if n.exemplars] if "exemplars" in result.stages else []
        self.seen = {_neuron(n): Exemplars(_neuron(n), n.exemplars) for n in shown}
        self.captions = {_neuron(n): n.captions or ("",) * len(n.exemplars) for n in shown}
        self.maps = _maps(session, self.seen) if self.seen else {}
        texts = {c.text for n in result.neurons for c in n.candidates if n.exemplars}
        self.drawn = session.draw(sorted(texts)) if "images" in result.stages else {}
        self.concepts = {text: f"c{number}" for number, text in enumerate(self.drawn)}
        for text, name in self.concepts.items():
            self.strips[name] = Strip.of(name, list(self.drawn[text].images))

    def exemplars(self, neuron: Neuron) -> list[Tile]:
        """The neuron's exemplars, each as the captioner saw it and where in its image the neuron fires."""
        if neuron not in self.seen:
            return []
        name, exemplars = f"e{len(self.strips)}", self.seen[neuron]
        self.strips[name] = Strip.of(name, [view.pixels for view in self.session.views(exemplars)])
        where = None
        if neuron in self.maps:
            where = f"w{len(self.strips)}"
            images = self.session.probe.images
            self.strips[where] = Strip.of(
                where,
                [
                    _overlay(images[item.index], heat, item.box)
                    for item, heat in zip(exemplars.items, self.maps[neuron], strict=True)
                ],
            )
        said = zip(exemplars.items, self.captions[neuron], strict=True)
        return [
            Tile(name, place, caption, item.activation, where) for place, (item, caption) in enumerate(said)
        ][:MOST]

    def images_of(self, text: str, neuron: Neuron) -> list[Tile]:
        """A concept's images, those first that activate the neuron most."""
        if text not in self.drawn:
            return []
        activations = self.drawn[text].activations[neuron.layer][:, neuron.unit]
        order = np.argsort(-activations[:MOST], kind="stable")
        return [Tile(self.concepts[text], int(place), text, float(activations[place])) for place in order]


def _shown_neuron(neuron: NeuronResult, gallery: _Gallery, right: str | None) -> dict[str, object]:
    """A neuron for its card; `right`: the metric that tells whether its label is right, if there is one."""
    values = {name: value for name, value in neuron.values.items() if np.isfinite(value)}
    is_right = values.get(right) if right else None
    if is_right is None and neuron.truth and neuron.labels:
        is_right = float(neuron.labels[0].lower() == neuron.truth.lower())
    state = "none" if neuron.unscored else "unknown" if is_right is None else "right" if is_right else "wrong"
    words = [neuron.name, *neuron.labels, neuron.truth or "", *(c.text for c in neuron.candidates)]
    of_session = _neuron(neuron)
    return {
        "name": neuron.name,
        "layer": neuron.layer,
        "labels": neuron.labels,
        "truth": neuron.truth,
        "unscored": neuron.unscored,
        "state": state,
        "score": neuron.score,
        "sorting": json.dumps(values | ({} if neuron.score is None else {"score": neuron.score})),
        "search": " ".join(words).lower(),
        "exemplars": gallery.exemplars(of_session),
        "candidates": [
            {**asdict(candidate), "tiles": gallery.images_of(candidate.text, of_session)}
            for candidate in neuron.candidates
        ],
    }


def _shown_metric(name: str, metric: MetricResult) -> dict[str, object]:
    """A metric with the places of its interval, chance, constant and oracle on a line from 0 to 100."""
    marks = {
        "low": metric.low,
        "high": metric.high,
        "mean": metric.mean,
        "chance": metric.chance,
        "constant": metric.controls.get("best_constant"),
        "oracle": metric.oracle,
    }
    known = [mark for mark in marks.values() if mark is not None and np.isfinite(mark)]
    start, end = min([0.0, *known]), max([1.0, *known])
    places = {
        key: None if mark is None or not np.isfinite(mark) else 100 * (mark - start) / (end - start)
        for key, mark in marks.items()
    }
    return {"name": name, **marks, "n": metric.n, "unscored": metric.unscored, "places": places}


def _maps(session: Session, shown: Mapping[Neuron, Exemplars]) -> dict[Neuron, list[np.ndarray]]:
    """Where in the images of its exemplars each neuron of a spatial layer fires."""
    found: dict[Neuron, list[np.ndarray]] = {}
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


def _title(folder: Path) -> str:
    """The settings of the command line, where the folder tells."""
    outcome = Outcome.read(folder)
    return outcome.title if outcome else folder.name


def _neuron(neuron: NeuronResult) -> Neuron:
    return Neuron(neuron.layer, neuron.unit)


def _number(value: object) -> str:
    """Short for people; a dash where there is nothing."""
    if not isinstance(value, int | float) or not np.isfinite(value):
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.3g}" if abs(value) >= 10 else f"{value:.3f}"


def _write(path: Path, template: str, **content: object) -> Path:
    environment = Environment(
        loader=PackageLoader("dnr_bench.outputs"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["number"] = _number
    page = environment.get_template(template).render(**content)
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error
    return path
