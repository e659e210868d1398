"""Finished runs as tables, from folders or from MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dnr_bench.results.records import Record, distinct, neuron_rows, records_in, run_rows

if TYPE_CHECKING:
    import pandas

#: One or several folders, or an address of MLflow's: sqlite:///..., http://...
Source = str | Path | Sequence[str | Path]


def runs_df(source: Source = "mlruns/runs", experiment: str = "dnr_bench") -> pandas.DataFrame:
    """One row per finished run: parts, settings, and each metric with interval, chance and number of items.

    Args:
        source: a folder with runs, also in folders below it; several folders; or the address of an MLflow
            server or database (`sqlite:///mlruns/mlflow.db`, `http://...`).
        experiment: of MLflow, where source is its address.

    Raises:
        UsageError: there is no finished run.
    """
    import pandas

    return pandas.DataFrame(run_rows(read_records(source, experiment)))


def neurons_df(source: Source = "mlruns/runs", experiment: str = "dnr_bench") -> pandas.DataFrame:
    """One row per neuron of each finished run: labels, score, candidates, and its value of each metric.

    The arguments are those of `runs_df`.
    """
    import pandas

    return pandas.DataFrame(neuron_rows(read_records(source, experiment)))


def read_records(source: Source, experiment: str = "dnr_bench") -> list[Record]:
    """The finished runs of a source, see `runs_df`."""
    if not isinstance(source, str | Path):
        found = distinct([record for one in source for record in read_records(one, experiment)])
        runs = [record.run for record in found]
        return [replace(r, run=f"{r.run} {r.digest[:8]}") if runs.count(r.run) > 1 else r for r in found]
    if "://" not in str(source):
        return records_in(Path(source))
    from dnr_bench.outputs.mlflow.jobs import logged_records
    from dnr_bench.outputs.mlflow.places import tracking_place

    return logged_records(tracking_place(Path("mlruns"), str(source)), experiment)
