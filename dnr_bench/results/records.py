"""Finished runs as rows that others can read: one per run, and one per neuron of each run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.files import read_regular
from dnr_bench.results.comparison import Job, Outcome, short_name
from dnr_bench.results.schema import RunResult, finite
from dnr_bench.results.settings import told_settings

Row = dict[str, object]


@dataclass(frozen=True)
class Record:
    """A finished run. run: its folder or its id in MLflow. digest: of its result. job: what it found."""

    run: str
    digest: str
    finished: datetime
    job: Job

    @property
    def name(self) -> str:
        """What was typed, for people, without the seed; the run where nobody knows."""
        if not self.job.choices:
            return self.run
        return short_name(self.job.unseeded, self.job.choices)

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
    paths = sorted(folder.rglob("result.json"), key=lambda path: (len(path.as_posix()), path))
    found = [record for path in paths if (record := _record_in(path.parent, folder)) is not None]
    if not found:
        raise UsageError(f"{folder} holds no finished run: there is no result.json in it or in folders below")
    return distinct(found)


def distinct(records: Sequence[Record]) -> list[Record]:
    """Each result once, although MLflow keeps a copy among its artifacts; the earliest first."""
    once = {record.digest: record for record in reversed(records)}
    return sorted(once.values(), key=lambda record: (record.finished, record.run))


def _record_in(home: Path, folder: Path) -> Record | None:
    """The run of a folder; None where the note beside its result says that it failed."""
    outcome = Outcome.read(home) or Outcome([])
    if outcome.failure is not None:
        return None
    job = Job(outcome.settings, RunResult.read(home), None, outcome.choices)
    files = [home / name for name in ("result.json", "outcome.json") if (home / name).exists()]
    digest = sha256(b"".join(map(read_regular, files))).hexdigest()
    run = home.relative_to(folder).as_posix()
    return Record(home.resolve().name if run == "." else run, digest, _finished(outcome, home), job)


def _finished(outcome: Outcome, home: Path) -> datetime:
    """As the run has noted it, else by the time of the file, which a copy may have changed."""
    try:
        noted = datetime.fromisoformat(outcome.finished or "")
    except ValueError:
        return datetime.fromtimestamp((home / "result.json").stat().st_mtime, UTC)
    return noted if noted.tzinfo else noted.replace(tzinfo=UTC)


def run_rows(records: Sequence[Record]) -> list[Row]:
    """One row per run: its parts, its settings, and each metric with interval, chance and number of items."""
    return [_run_row(record) for record in records]


def neuron_rows(records: Sequence[Record]) -> list[Row]:
    """One row per neuron of each run: labels, score, candidates, and its value of each metric."""
    return [row for record in records for row in _neuron_rows(record)]


def _run_row(record: Record) -> Row:
    result = record.result
    settings = told_settings(result.config)
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
