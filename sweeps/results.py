"""Results of a study: the chosen settings on held-out neurons, beside settings as given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import optuna

from dnr_bench.statistics.intervals import Estimate, estimate
from dnr_bench.statistics.paired import Difference, Records, difference, holm, linked_by_label


@dataclass(frozen=True)
class Row:
    """One way to choose settings: quality on held-out neurons, and what the study gains over it, paired."""

    name: str
    quality: Estimate
    gain: Difference | None = None
    p_holm: float = float("nan")

    def flat(self) -> dict[str, object]:
        """The row as plain values."""
        gain = asdict(self.gain) if self.gain else {}
        return {
            "settings": self.name,
            **asdict(self.quality),
            **{f"gain.{key}": gain[key] for key in ("mean", "low", "high", "p", "effect") if gain},
            "gain.p_holm": self.p_holm,
        }


@dataclass(frozen=True)
class StudyResult:
    """best: overrides of a run. rows: the first is the study's. curve: quality by budget, if it had one."""

    name: str
    metric: str
    best: tuple[str, ...]
    tuning_quality: float
    rows: tuple[Row, ...]
    curve: tuple[Mapping[str, float], ...]
    trials: tuple[Mapping[str, object], ...]
    study: optuna.Study


def rows_of(metric: str, found: Records, others: Mapping[str, Records]) -> tuple[Row, ...]:
    """The study's own row, and one for each way that it is compared with; P values allow for their number."""
    gains = {name: difference(metric, records, found) for name, records in others.items()}
    adjusted = holm([float("nan") if gain is None else gain.p for gain in gains.values()])
    return (
        Row("found by the study", quality_of(metric, found)),
        *(
            Row(name, quality_of(metric, others[name]), gain, p)
            for (name, gain), p in zip(gains.items(), adjusted, strict=True)
        ),
    )


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
