"""Finished runs as rows that others can read: one per run, and one per neuron of each run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.files import read_regular
from dnr_bench.results.comparison import Job, Outcome, read_job
from dnr_bench.results.schema import RunResult, finite
from dnr_bench.results.settings import flat_settings

Row = dict[str, object]
#: Settings that say where files lie on the machine of a run, which are nobody else's business.
_PLACES = "paths."


@dataclass(frozen=True)
class Record:
    """A finished run. run: its folder or its id in MLflow. job: its result, overrides and choices."""

    run: str
    finished: datetime
    job: Job

    @property
    def name(self) -> str:
        """What was typed, for people, without the seed."""
        words = [f"{key}={value}" for key, value in self.job.overrides.items() if key != "seed"]
        return Outcome(words, self.job.choices).name()

    @property
    def result(self) -> RunResult:
        """What it found."""
        assert self.job.result is not None
        return self.job.result


def records_in(folder: Path) -> list[Record]:
    """The finished runs in a folder and the folders below it, the earliest first.

    Raises:
        UsageError: there is none, or a result is damaged or of another version.
    """
    found = []
    for path in _result_files(folder):
        home = path.parent
        job = read_job(home) if Outcome.read(home) else Job({}, RunResult.read(home), None)
        if job.result is not None:
            finished = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            run = home.relative_to(folder).as_posix()
            found.append(Record(home.name if run == "." else run, finished, job))
    if not found:
        raise UsageError(f"{folder} holds no finished run: there is no result.json in it or in folders below")
    return sorted(found, key=lambda record: (record.finished, record.run))


def _result_files(folder: Path) -> list[Path]:
    """Each result once, although MLflow keeps a copy among its artifacts."""
    paths = sorted(folder.rglob("result.json"), key=lambda path: (len(path.as_posix()), path))
    by_content: dict[str, Path] = {}
    for path in paths:
        files = [path, path.with_name("outcome.json")]
        content = b"".join(read_regular(file) for file in files if file.exists())
        by_content.setdefault(sha256(content).hexdigest(), path)
    return list(by_content.values())


def run_rows(records: Sequence[Record]) -> list[Row]:
    """One row per run: its parts, its settings, and each metric with interval, chance and number of items."""
    return [_run_row(record) for record in records]


def neuron_rows(records: Sequence[Record]) -> list[Row]:
    """One row per neuron of each run: labels, score, candidates, and its value of each metric."""
    return [row for record in records for row in _neuron_rows(record)]


def _run_row(record: Record) -> Row:
    result = record.result
    settings = {k: v for k, v in flat_settings(result.config).items() if not k.startswith(_PLACES)}
    row: Row = {"run": record.run, "name": record.name, "finished": record.finished.isoformat()}
    row |= {**settings, **record.job.choices}
    row |= {
        "neurons": len(result.neurons),
        "unlabeled": len(result.unscored),
        "probing_images": result.probe.images,
        "probing_set": result.probe.name,
        "probing_set_digest": result.probe.digest,
        "seconds": result.seconds,
        "dnr_bench": result.versions.get("dnr-bench"),
    }
    for name, metric in result.metrics.items():
        values = {
            "": metric.mean,
            ".low": metric.low,
            ".high": metric.high,
            ".chance": metric.chance,
            ".n": metric.n,
        }
        row |= {f"{name}{part}": finite(value) for part, value in values.items()}
    return row


def _neuron_rows(record: Record) -> list[Row]:
    return [
        {
            "run": record.run,
            "name": record.name,
            "layer": neuron.layer,
            "unit": neuron.unit,
            "label": neuron.labels[0] if neuron.labels else None,
            "labels": list(neuron.labels),
            "score": finite(neuron.score),
            "truth": neuron.truth,
            "unscored": neuron.unscored,
            "candidates": [candidate.text for candidate in neuron.candidates],
            **{name: finite(value) for name, value in neuron.values.items()},
        }
        for neuron in record.result.neurons
    ]
