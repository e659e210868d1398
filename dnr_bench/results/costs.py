"""From finished runs to what one of another size would take: hours, dollars, disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dnr_bench.infra.store_contents import REFERENCES, references
from dnr_bench.results.schema import RunResult
from dnr_bench.statistics.costs import Growth, Line, fitted, grown

#: What the time of each stage grows with; of stages that are not named here, with the neurons.
_BY = {
    "activations": "images",
    "probe_embeddings": "images",
    "captions": "views",
    "images": "drawn",
    "image_activations": "drawn",
    "image_embeddings": "drawn",
    "text_embeddings": "drawn",
    "thumbnails": "drawn",
    "pixels": "drawn",
}
#: What a run does beside its stages.
_REST = "everything else"


@dataclass(frozen=True)
class Size:
    """neurons and probing images of a run, and the images that are drawn of each concept."""

    neurons: int
    images: int
    images_per_concept: int


@dataclass(frozen=True)
class Estimate:
    """seconds of each stage; dollars for chat models, and bytes on disk by stage, where they are known.

    unclear: stages that took as long in the smallest run as in the largest, so that nobody knows what an item
    takes.
    """

    seconds: Mapping[str, float]
    dollars: float
    disk: Mapping[str, float]
    unclear: tuple[str, ...]

    @property
    def hours(self) -> float:
        """Of all stages together."""
        return sum(self.seconds.values()) / 3600


@dataclass(frozen=True)
class CostModel:
    """Fitted to finished runs with the same parts; two of different sizes tell fixed times from others.

    views, concepts: how their distinct numbers grow with the neurons. bytes: on disk, per item of each stage.
    dollars: per neuron.
    """

    lines: Mapping[str, Line]
    views: Growth
    concepts: Growth
    bytes: Mapping[str, float]
    dollars: float

    @classmethod
    def of(cls, runs: Sequence[tuple[RunResult, Path]]) -> CostModel:
        """The model of runs with their folders; what a run has found in the store says nothing."""
        largest, folder = max(runs, key=lambda run: len(run[0].neurons))
        views, concepts = _views(largest), _concepts(largest)
        sizes = [_items(size_of(run), _views(run), _concepts(run)) for run, _ in runs]
        stages = dict.fromkeys(stage for run, _ in runs for stage in run.stages)
        lines = {}
        for stage in stages:
            known = [
                (items[_BY.get(stage, "neurons")], run.stages[stage].seconds)
                for (run, _), items in zip(runs, sizes, strict=True)
                if stage in run.stages and _is_cold(stage, run)
            ]
            lines[stage] = fitted([n for n, _ in known], [s for _, s in known])
        rest = [max(run.seconds - sum(s.seconds for s in run.stages.values()), 0.0) for run, _ in runs]
        lines[_REST] = fitted([items["neurons"] for items in sizes], rest)
        paid = sum(used.dollars or 0.0 for used in largest.usage.values())
        items = _items(size_of(largest), views, concepts)
        stored = _bytes(folder, largest).items()
        on_disk = {stage: size / max(items[_BY.get(stage, "neurons")], 1) for stage, size in stored}
        return cls(lines, views, concepts, on_disk, paid / max(len(largest.neurons), 1))

    def estimate(self, size: Size, workers: int = 1) -> Estimate:
        """A run of this size, shared by so many workers (GPUs, or processes with cores of their own)."""
        items = _items(size, self.views, self.concepts)
        return Estimate(
            {s: line.seconds(items[_BY.get(s, "neurons")], workers) for s, line in self.lines.items()},
            self.dollars * size.neurons,
            {s: each * items[_BY.get(s, "neurons")] for s, each in self.bytes.items()},
            tuple(
                stage
                for stage, line in self.lines.items()
                if line.fixed >= 1 and not line.per_item and stage != _REST
            ),
        )


def size_of(run: RunResult) -> Size:
    """The size of a finished run."""
    images = run.config.get("images_per_concept", 0)
    return Size(len(run.neurons), run.probe.images, images if isinstance(images, int) else 0)


def _items(size: Size, views: Growth, concepts: Growth) -> dict[str, float]:
    return {
        "neurons": float(size.neurons),
        "images": float(size.images),
        "views": views.distinct(size.neurons),
        "drawn": concepts.distinct(size.neurons) * size.images_per_concept,
    }


def _views(run: RunResult) -> Growth:
    return grown([[(item.index, item.box) for item in neuron.exemplars] for neuron in run.neurons])


def _concepts(run: RunResult) -> Growth:
    return grown([[candidate.text for candidate in neuron.candidates] for neuron in run.neurons])


def _is_cold(stage: str, run: RunResult) -> bool:
    count = run.stages[stage]
    return stage == "evaluation" or not count.hits or count.misses >= count.hits / 2


def _bytes(folder: Path, run: RunResult) -> dict[str, float]:
    """Bytes of the store that each stage of a run takes; none where its store is not at hand."""
    store = run.config.get("store")
    named = str(store.get("root", "")) if isinstance(store, Mapping) else ""
    # relative to where the run was started, which is above its own folder
    roots = [parent / named for parent in folder.resolve().parents if named and (parent / named).is_dir()]
    if not (folder / REFERENCES).is_file() or not roots:
        return {}
    found: dict[str, float] = {}
    for _, names in references(folder):
        for stage, name in names:
            path = roots[0] / stage / name[:2] / name
            files = [path, path.with_suffix(".npy")]
            found[stage] = found.get(stage, 0.0) + sum(_taken(f) for f in files if f.is_file())
    return found


def _taken(file: Path) -> int:
    """The bytes of the disk that a file takes, whole blocks: most items are smaller than one."""
    found = file.stat()
    return int(getattr(found, "st_blocks", 0) * 512 or found.st_size)
