"""The page of a run, or of two runs side by side: metrics, and every neuron with its pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from dnr_bench.data.explanation import ScoredCandidate
from dnr_bench.outputs.pages.page import write_page
from dnr_bench.outputs.pages.sheets import Sheets
from dnr_bench.outputs.pictures import Pictures, Tile
from dnr_bench.results.comparison import Job, Outcome, judged_apart, paired_records
from dnr_bench.results.schema import MetricResult, NeuronResult, RunResult
from dnr_bench.results.settings import told_settings
from dnr_bench.stages.lazy import Lazy
from dnr_bench.stages.thumbnails import SIZE
from dnr_bench.statistics.paired import difference

#: Control labels that cost nothing, by the words of the page.
_CONTROLS = {"best_constant": "one label for all neurons", "copy": "the caption of the highest exemplar"}


@dataclass(frozen=True)
class Side:
    """A run on a page. name: for people. choices: its members of config groups. prefix: of its pictures."""

    result: RunResult
    pictures: Pictures
    name: str
    choices: Mapping[str, str]
    prefix: str = "a"

    @classmethod
    def of(cls, folder: Path, result: RunResult, pictures: Pictures, prefix: str = "a") -> Side:
        """The run in a folder."""
        outcome = Outcome.read(folder)
        name, choices = (outcome.name(), outcome.choices) if outcome else (folder.name, {})
        return cls(result, pictures, name, choices, prefix)

    @cached_property
    def right(self) -> str | None:
        """The metric that tells whether a label is right, if there is one."""
        return next((n for n, metric in self.result.metrics.items() if metric.unit == "correct"), None)

    def state(self, neuron: NeuronResult | None) -> str:
        """Whether a neuron's label is "right" or "wrong"; "unlabeled", or "unknown" where nothing tells."""
        if neuron is None or neuron.unscored:
            return "unlabeled"
        value = neuron.values.get(self.right or "", float("nan"))
        if np.isfinite(value):
            return "right" if value else "wrong"
        if not neuron.truth or not neuron.labels or neuron.layer in self._judged_layers:
            return "unknown"  # the metric leaves this neuron out
        return "right" if _words(neuron.labels[0]) == _words(neuron.truth) else "wrong"

    @cached_property
    def _judged_layers(self) -> frozenset[str]:
        """The layers of which a metric judges some neuron right or wrong; words decide in others."""
        return frozenset(neuron.layer for neuron in self.result.neurons if self.right in neuron.values)

    @property
    def settings(self) -> dict[str, str]:
        """All settings by dotted names, but for places on the machine."""
        return told_settings(self.result.config)


def write_report(result: RunResult, pictures: Pictures, folder: Path) -> Path:
    """Write report.html beside result.json in the folder of a run."""
    side = Side.of(folder, result, pictures)
    metrics = {name: _shown_metric(name, metric) for name, metric in result.metrics.items()}
    headlines = [shown for name, shown in metrics.items() if result.metrics[name].headline]
    details = [shown for name, shown in metrics.items() if not result.metrics[name].headline]
    beaten = {meaning: result.beaten_by(control) for control, meaning in _CONTROLS.items()}
    return _write(
        folder / "report.html",
        (side,),
        headlines=headlines or details,
        details=details if headlines else [],
        beaten={meaning: names for meaning, names in beaten.items() if names},
        tables=[table for table in result.tables if table.rows],
        compared=[],
        differing={},
    )


def write_pair(first: Side, second: Side, path: Path) -> Path:
    """Write a page of two runs side by side, neuron by neuron, with paired differences of the metrics."""
    jobs = [Job({}, side.result, None) for side in (first, second)]
    apart = judged_apart(jobs)
    items = paired_records(jobs[:1], jobs[1:])
    shared = [name for name in first.result.metrics if name in second.result.metrics]
    headlines = [name for name in shared if first.result.metrics[name].headline]
    compared = [
        {
            "name": name,
            "first": first.result.metrics[name],
            "second": second.result.metrics[name],
            "difference": None if name in apart else difference(name, *items),
        }
        for name in headlines
    ]
    return _write(
        path, (first, second), headlines=[], details=[], beaten={}, tables=[], compared=compared,
        differing=_differing(first, second),
    )  # fmt: skip


def _differing(first: Side, second: Side) -> dict[str, tuple[str, str]]:
    """The parts and settings in which two runs differ, with the values of both."""
    one, other = ({**side.settings, **side.choices} for side in (first, second))
    return {
        name: (one.get(name, "–"), other.get(name, "–"))
        for name in dict.fromkeys([*one, *other])
        if one.get(name) != other.get(name)
    }


def _write(path: Path, sides: Sequence[Side], **content: object) -> Path:
    names = list(dict.fromkeys(neuron.name for side in sides for neuron in side.result.neurons))
    by_name = [{neuron.name: neuron for neuron in side.result.neurons} for side in sides]
    sheets = Sheets.of({side.prefix: side.pictures.strips for side in sides}, path)
    neurons = [[found.get(name) for found in by_name] for name in names]
    shown: Callable[[int], dict[str, object]] = partial(_shown_neuron, neurons, sides, sheets)
    first = sides[0].result
    return write_page(
        path,
        "run.html.j2",
        title=" and ".join(side.name for side in sides),
        sides=sides,
        size=SIZE,
        neurons=Lazy(len(names), shown),
        counts=_counts(neurons, sides),
        layers=list(dict.fromkeys(neuron.layer for side in sides for neuron in side.result.neurons)),
        sortable=[name for name, metric in first.metrics.items() if metric.item_kind == "neuron"],
        sheets=sheets,
        **content,
    )


def _counts(neurons: Sequence[Sequence[NeuronResult | None]], sides: Sequence[Side]) -> dict[str, int]:
    """How many neurons there are of each state that can be filtered."""
    found: dict[str, int] = {}
    for of_one in neurons:
        for state in _states(of_one, sides):
            found[state] = found.get(state, 0) + 1
    order = ("right", "wrong", "changed", "same", "gained", "lost", "unlabeled")
    return {state: found[state] for state in order if state in found}


def _states(of_one: Sequence[NeuronResult | None], sides: Sequence[Side]) -> list[str]:
    """What a neuron can be filtered by; of two runs also whether its label is the same, and got better."""
    each = [side.state(neuron) for neuron, side in zip(of_one, sides, strict=True)]
    if len(sides) == 1:
        return each
    labels = [tuple(neuron.labels) if neuron else () for neuron in of_one]
    found = ["same" if labels[0] == labels[1] else "changed"]
    if each[0] != each[1]:
        found += ["gained"] if each[1] == "right" else ["lost"] if each[0] == "right" else []
    return found


def _shown_neuron(
    neurons: Sequence[Sequence[NeuronResult | None]], sides: Sequence[Side], sheets: Sheets, place: int
) -> dict[str, object]:
    """A neuron for its card: what stands there at once, and as JSON what is drawn when it is looked at."""
    of_one = neurons[place]
    known = [neuron for neuron in of_one if neuron is not None]
    first = known[0]
    values = {name: _short(value) for name, value in first.values.items() if np.isfinite(value)}
    scores = {} if first.score is None else {"score": _short(first.score)}
    words = [first.name, first.truth or ""]
    for neuron in known:
        words += [*neuron.labels, *(candidate.text for candidate in neuron.candidates)]
    return {
        "name": first.name,
        "layer": first.layer,
        "truth": first.truth,
        "rank": _truth_rank(first) if len(sides) == 1 else None,
        "score": first.score if len(sides) == 1 else None,
        "answers": [_answer(neuron, side) for neuron, side in zip(of_one, sides, strict=True)],
        "states": " ".join(_states(of_one, sides)),
        "sorting": json.dumps(values | scores),
        "search": " ".join(dict.fromkeys(words)).lower(),
        "details": [
            {"title": side.name if len(sides) > 1 else "", **_details(neuron, side, sheets)}
            for neuron, side in zip(of_one, sides, strict=True)
            if neuron
        ],
    }


def _answer(neuron: NeuronResult | None, side: Side) -> dict[str, object]:
    labels = neuron.answer if neuron else ""
    reason = (neuron.unscored if neuron else "not in this run") or ""
    return {"label": labels, "reason": reason, "state": side.state(neuron)}


def _truth_rank(neuron: NeuronResult) -> str:
    """Where the truth stands among the candidates."""
    if not neuron.truth or not neuron.candidates:
        return ""
    for rank, candidate in enumerate(neuron.candidates, start=1):
        if _words(candidate.text) == _words(neuron.truth):
            return f"candidate {rank} of {len(neuron.candidates)}"
    return f"not among its {len(neuron.candidates)} candidates"


def _words(text: str) -> list[str]:
    """Without their order, which differs where alternatives are joined by "or"."""
    return sorted(text.lower().split())


def _details(neuron: NeuronResult, side: Side, sheets: Sheets) -> dict[str, object]:
    """The pictures, captions and candidates of a neuron as plain values."""
    exemplars = side.pictures.exemplars.get(neuron.name, ())
    drawn = side.pictures.concepts.get(neuron.name, {})
    histogram = side.pictures.histograms.get(neuron.name)
    tiles = [*exemplars, *(tile for of_one in drawn.values() for tile in of_one)]
    return {
        "labels": list(neuron.labels),
        "exemplars": [_tile(tile, side.prefix) for tile in exemplars],
        "candidates": [_candidate(c, neuron, drawn.get(c.text, ()), side) for c in neuron.candidates],
        "histogram": None
        if histogram is None
        else {"low": histogram.low, "high": histogram.high, "counts": list(histogram.counts)},
        "refined": list(neuron.refinement.answers) if neuron.refinement else [],
        "sheets": sorted(set(_needed(tiles, side, sheets))),
    }


def _needed(tiles: Sequence[Tile], side: Side, sheets: Sheets) -> Iterator[str]:
    for tile in tiles:
        for strip in (tile.strip, tile.where):
            if strip is not None and (sheet := sheets.sheet_of(side.prefix, strip)) is not None:
                yield sheet


def _tile(tile: Tile, prefix: str) -> dict[str, object]:
    where = None if tile.where is None else f"{prefix}-{tile.where}"
    value = _short(tile.value)
    return {"strip": f"{prefix}-{tile.strip}", "place": tile.place, "text": tile.text, "value": value} | (
        {"where": where} if where else {}
    )


def _candidate(
    candidate: ScoredCandidate, neuron: NeuronResult, tiles: Sequence[Tile], side: Side
) -> dict[str, object]:
    return {
        "text": candidate.text,
        "origin": f"{candidate.origin} {candidate.iteration or ''}".strip(),
        "score": _short(candidate.score),
        "won": candidate.text in neuron.labels,
        "reason": candidate.reason or "",
        "shown": candidate.shown,
        "tiles": [_tile(tile, side.prefix) for tile in tiles],
    }


def _short(value: float) -> float | None:
    """Four digits, which is more than anybody reads: a page of thousands of neurons stays light."""
    return float(f"{value:.4g}") if np.isfinite(value) else None


def _shown_metric(name: str, metric: MetricResult) -> dict[str, object]:
    """A metric with the places of its interval, of chance and of controls on a line from 0 to 100."""
    marks = {
        "low": metric.low,
        "high": metric.high,
        "mean": metric.mean,
        "chance": metric.chance,
        "constant": metric.controls.get("best_constant"),
        "copy": metric.controls.get("copy"),
        "oracle": metric.oracle,
    }
    known = [mark for mark in marks.values() if mark is not None and np.isfinite(mark)]
    start, end = min([0.0, *known]), max([1.0, *known])
    places = {
        key: None if mark is None or not np.isfinite(mark) else 100 * (mark - start) / (end - start)
        for key, mark in marks.items()
    }
    return {"name": name, **marks, "n": metric.n, "unscored": metric.unscored, "places": places}
