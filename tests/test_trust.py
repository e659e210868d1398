"""Which metric orders settings as the truth does: results made up by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from dnr_bench.app.main import COMMANDS
from dnr_bench.infra.errors import UsageError
from dnr_bench.results.comparison import Job
from dnr_bench.results.records import Record
from dnr_bench.results.trust import Trust, trusted
from tests.helpers.results import metric, neuron, result

RNG = np.random.default_rng(5)
NOISE = RNG.normal(size=(6, 40))


def record(setting: int, values: Mapping[str, np.ndarray], lower: tuple[str, ...] = ()) -> Record:
    """The run of one setting: the values of 40 neurons in each metric."""
    neurons = [
        neuron(unit, [f"label {unit}"], {name: float(of_one[unit]) for name, of_one in values.items()})
        for unit in range(40)
    ]
    metrics = {
        name: metric(
            mean=float(of_one.mean()), higher_is_better=name not in lower, group=name.partition(".")[0]
        )
        for name, of_one in values.items()
    }
    found = replace(result(neurons, metrics), config={"scorer": f"s{setting}"})
    job = Job({"scorer": f"s{setting}"}, found, None)
    return Record(f"run{setting}", str(setting), datetime.now(UTC), job)


@pytest.fixture
def found() -> dict[str, Trust]:
    """Six settings, each better than the one before by a tenth."""
    records = []
    for setting in range(6):
        truth = 0.1 * setting + 0.05 * NOISE[setting]
        values = {
            "planted.exact": truth,
            "other.same": truth + 3,
            "other.error": -truth,
            "other.reversed": -truth,
            "other.constant": np.ones(40),
            "other.noise": RNG.normal(size=40),
        }
        records.append(record(setting, values, lower=("other.error",)))
    return {trust.metric: trust for trust in trusted(records, "planted.exact")}


def test_metrics_that_order_settings_as_the_truth_does_come_first(found: dict[str, Trust]) -> None:
    assert set(list(found)[:2]) == {"other.same", "other.error"}
    for name in ("other.same", "other.error"):
        assert found[name].correlation == pytest.approx(1)
        assert found[name].low > 0.9
        assert found[name].loss == 0
    assert "planted.exact" not in found
    assert found["other.same"].settings == 6


def test_the_loss_is_that_of_the_setting_which_the_metric_likes_best(found: dict[str, Trust]) -> None:
    worst = found["other.reversed"]
    assert worst.correlation == pytest.approx(-1)
    assert worst.loss == pytest.approx(0.5, abs=0.05)
    assert np.isnan(found["other.constant"].correlation)
    assert found["other.noise"].low < 0.9


def test_three_settings_are_too_few() -> None:
    records = [record(i, {"planted.exact": np.full(40, i)}) for i in range(3)]
    with pytest.raises(
        UsageError, match=r"3 settings have planted\.exact: a rank correlation needs at least 4"
    ):
        trusted(records, "planted.exact")


def test_neurons_without_a_truth_in_one_setting_count_in_none() -> None:
    """Where the hard neurons lost their labels in the worst setting, it is still the worst."""
    hard = np.arange(40) % 2 == 0
    records = []
    for setting in range(4):
        truth = 0.1 * setting + np.where(hard, 0.0, 0.5)
        seen = np.where(hard, np.nan, truth) if setting == 0 else truth
        records.append(record(setting, {"planted.exact": seen, "other.same": np.full(40, float(setting))}))
    (found,) = trusted(records, "planted.exact")
    assert found.correlation == pytest.approx(1)
    assert found.loss == 0


def test_runs_of_other_networks_or_without_common_neurons_are_refused() -> None:
    records = [record(i, {"planted.exact": np.full(40, i)}) for i in range(4)]
    others = [
        replace(r, job=replace(r.job, result=replace(r.result, config={"target": i})))
        for i, r in enumerate(records)
    ]
    with pytest.raises(UsageError, match="different networks"):
        trusted(others, "planted.exact")
    apart = [record(i, {"planted.exact": np.where(np.arange(40) == i, 1.0, np.nan)}) for i in range(4)]
    with pytest.raises(UsageError, match="no neuron that planted"):
        trusted(apart, "planted.exact")


def test_it_is_a_command() -> None:
    assert "trust" in COMMANDS
