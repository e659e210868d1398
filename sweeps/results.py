"""Results of a study: chosen settings on held-out neurons, beside settings as given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import optuna
from matplotlib.figure import Figure
from rich.table import Table as RichTable

from dnr_bench.statistics.intervals import Estimate, estimate
from dnr_bench.statistics.paired import Difference, Records, difference, holm, linked_by_label

FOUND = "found by the study"
Rows = Sequence[Mapping[str, object]]


@dataclass(frozen=True)
class Row:
    """One way to choose settings: quality on held-out neurons, and a paired difference with its P value.

    gain: in a list of rows of `rows_of`, what the study gains over this row; in one of `PapersStudy`, what
    this row's tuned settings gain over `given`, the papers' settings.
    """

    name: str
    quality: Estimate
    gain: Difference | None = None
    p_holm: float = float("nan")
    given: Estimate | None = None

    def flat(self) -> dict[str, object]:
        """The row as plain values."""
        gain = asdict(self.gain) if self.gain else {}
        given = asdict(self.given) if self.given else {}
        return {
            "settings": self.name,
            **asdict(self.quality),
            **{f"given.{key}": value for key, value in given.items()},
            **{f"gain.{key}": gain[key] for key in ("mean", "low", "high", "p", "effect") if gain},
            "gain.p_holm": self.p_holm,
        }


@dataclass(frozen=True)
class Recommendation:
    """Settings to run with: overrides, and for what they are best."""

    purpose: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class StudyResult:
    """What a study found.

    recommended: the first is the one for everything. rows: quality on held-out neurons. tables, metrics,
    figures: for MLflow, beside rows and trials. shown: for the terminal.
    """

    name: str
    metric: str
    recommended: tuple[Recommendation, ...]
    rows: tuple[Row, ...]
    tables: Mapping[str, Rows]
    metrics: Mapping[str, float]
    trials: tuple[Mapping[str, object], ...]
    figures: Mapping[str, Figure]
    shown: tuple[RichTable, ...]

    @property
    def best(self) -> tuple[str, ...]:
        """The settings that are recommended for everything."""
        return self.recommended[0].overrides


def rows_of(metric: str, found: Records, others: Mapping[str, Records]) -> tuple[Row, ...]:
    """The study's own row, and one for each way that it is compared with; P values allow for their number."""
    gains = {name: difference(metric, records, found) for name, records in others.items()}
    adjusted = holm([float("nan") if gain is None else gain.p for gain in gains.values()])
    return (
        Row(FOUND, quality_of(metric, found)),
        *(
            Row(name, quality_of(metric, others[name]), gain, p)
            for (name, gain), p in zip(gains.items(), adjusted, strict=True)
        ),
    )


def metrics_of(rows: Sequence[Row]) -> dict[str, float]:
    """Rows of `rows_of` as metrics by which studies are compared in MLflow."""
    found = rows[0].quality
    gains = {f"gain_over.{row.name.replace(' ', '_')}": row.gain.mean for row in rows if row.gain}
    return {"held_out": found.mean, "held_out.low": found.low, "held_out.high": found.high, **gains}


def quality_of(metric: str, records: Records) -> Estimate:
    """The mean over neurons and seeds; neurons that share a label, and a neuron's seeds, are one cluster."""
    of_all = list(records.values())
    values = np.asarray([record.values[metric] for record in of_all], float)
    return estimate(values, linked_by_label(of_all))


def trial_rows(studies: Sequence[optuna.Study]) -> tuple[Mapping[str, object], ...]:
    """Every trial as plain values."""
    return tuple(
        {
            "study": study.study_name,
            "trial": trial.number,
            "state": trial.state.name.lower(),
            **{f"value{i or ''}": value for i, value in enumerate(trial.values or ())},
            "seconds": trial.duration.total_seconds() if trial.duration else None,
            **trial.params,
        }
        for study in studies
        for trial in study.get_trials(deepcopy=False)
    )
