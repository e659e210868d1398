"""Runs and multiruns that were logged before, read back."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from dnr_bench.infra.errors import UsageError
from dnr_bench.outputs.mlflow.places import Place, unusable
from dnr_bench.outputs.mlflow.tracker import Tracker
from dnr_bench.results.comparison import Job, read_job
from dnr_bench.results.records import Record


def logged_jobs(tracker: Tracker, run_id: str) -> list[Job]:
    """The results of a run, or of each job of a multirun."""
    try:
        run = tracker.client.get_run(run_id)
    except MlflowException as error:
        raise UsageError(
            f"{run_id} is neither a folder nor the id of a run in {tracker.uri.removeprefix('sqlite:///')}"
        ) from error
    children = tracker.client.search_runs(
        [run.info.experiment_id],
        f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run_id}'",
        order_by=["attributes.start_time ASC"],
    )
    return [_job(tracker.client, child) for child in children or [run]]


def logged_records(place: Place, experiment: str) -> list[Record]:
    """Every finished run of an experiment that has a result, the earliest first; nothing is written.

    Raises:
        UsageError: there is no such place, experiment or run.
        RunError: the place does not answer.
    """
    if place.database is not None and not place.database.is_file():
        raise UsageError(f"{place.shown} is no database: there is no such file")
    try:
        client = MlflowClient(place.uri)
        found = client.get_experiment_by_name(experiment)
        runs = [] if found is None else _finished_runs(client, found.experiment_id)
        jobs = [(run, _job(client, run)) for run in runs]
    except MlflowException as error:
        raise unusable(place, error) from error
    records = [
        Record(run.info.run_id, run.info.run_id, datetime.fromtimestamp(run.info.end_time / 1000, UTC), job)
        for run, job in jobs
        if job.result is not None
    ]
    if not records:
        raise UsageError(f"the experiment {experiment!r} of {place.shown} has no finished run with a result")
    return records


def _finished_runs(client: MlflowClient, experiment_id: str) -> list[Run]:
    runs: list[Run] = []
    token: str | None = ""
    while token is not None:
        page = client.search_runs(
            [experiment_id],
            "attributes.status = 'FINISHED'",
            order_by=["attributes.start_time ASC"],
            page_token=token or None,
        )
        runs += page
        token = page.token or None
    return runs


def _job(client: MlflowClient, run: Run) -> Job:
    run_id = run.info.run_id
    if not any(item.path == "outcome.json" for item in client.list_artifacts(run_id)):
        return Job({}, None, run.data.tags.get("failure", "it has no result"))
    with TemporaryDirectory() as folder:
        for name in ("outcome.json", "result.json"):
            client.download_artifacts(run_id, name, folder)
        return read_job(Path(folder))
