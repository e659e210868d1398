"""Logs runs, multiruns and studies to an SQLite database and an artifact folder."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
from filelock import FileLock
from matplotlib.figure import Figure
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import RunStatus, RunTag, SpanType
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import (
    MLFLOW_GIT_COMMIT,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_RUN_NOTE,
    MLFLOW_SOURCE_NAME,
    MLFLOW_SOURCE_TYPE,
)

from dnr_bench.data.scorecard import Plot
from dnr_bench.infra.errors import RunError
from dnr_bench.outputs.mlflow.artifacts import LOCATION
from dnr_bench.outputs.mlflow.entries import (
    metric_entries,
    metric_rows,
    metrics_of,
    neuron_row,
    note_of,
    param_entries,
    params_of,
)
from dnr_bench.outputs.plots import draw
from dnr_bench.results.schema import CallRecord, RunResult, finite

Rows = Sequence[Mapping[str, object]]

#: Calls of a part that become traces, each of which takes a twentieth of a second.
_MAX_TRACES = 100
#: Without it the UI takes the runs for those of a language model.
_KIND = {"mlflow.experimentKind": "custom_model_development"}


class Tracker:
    """Logs runs to an SQLite database and an artifact folder under `mlruns`."""

    def __init__(self, mlruns: Path, experiment: str) -> None:
        mlruns.mkdir(parents=True, exist_ok=True)
        root = mlruns.resolve()
        self.uri = f"sqlite:///{root / 'mlflow.db'}"
        logging.getLogger("alembic").setLevel(logging.WARNING)
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        mlflow.set_tracking_uri(self.uri)
        with FileLock(root / ".lock"):  # two first runs at once must not both set up the database
            self.client = MlflowClient(self.uri)
            self.experiment_id = self._experiment(experiment)

    def _experiment(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is None:
            return str(self.client.create_experiment(name, LOCATION, _KIND))
        if found.lifecycle_stage != "active":
            self.client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def log_result(
        self,
        result: RunResult,
        folder: Path,
        name: str,
        started: float,
        parent: str | None,
        choices: Mapping[str, str],
    ) -> str:
        """A finished run with its metrics, parameters, tables and the files in `folder`; returns its id.

        The member of each config group is a tag to filter by: tags.generator = 'diffusion'. Metrics in which
        one label for all neurons does as well as theirs are in the tag constant_label_wins.
        """
        run_id = self._start(name, started, parent)
        with self._finishing(run_id):
            self.client.log_batch(
                run_id,
                metrics=metrics_of(result),
                params=params_of(result.config),
                tags=[RunTag(f"version.{key}", value) for key, value in result.versions.items()]
                + [RunTag(group, member) for group, member in choices.items()]
                + [RunTag("constant_label_wins", ", ".join(result.beaten_by_constants) or "nowhere")]
                + [RunTag(MLFLOW_GIT_COMMIT, result.versions["git"])]
                + [RunTag(MLFLOW_RUN_NOTE, note_of(result, choices))],
            )
            self._log_probe(run_id, result)
            self._log_calls(run_id, result)
            self._log_files(run_id, result, folder)
        return run_id

    def log_failure(
        self,
        reason: str,
        config: Mapping[str, Any],
        folder: Path,
        name: str,
        started: float,
        parent: str | None,
    ) -> str:
        """A failed run with its reason; returns its id."""
        run_id = self._start(name, started, parent)
        try:
            self._note_failure(run_id, reason)
            self.client.log_batch(run_id, params=params_of(config))
            self._upload(run_id, folder)
        finally:
            self.client.set_terminated(run_id, RunStatus.to_string(RunStatus.FAILED))
        return run_id

    def start_parent(self, name: str) -> str:
        """An open run under which the jobs of a multirun are nested; returns its id."""
        return self._start(name, time.time(), None)

    def finish_parent(
        self,
        run_id: str,
        rows: Rows,
        plots: Sequence[Plot],
        page: Path | None,
        failed: bool,
    ) -> None:
        """Close a parent run with a table that compares its jobs, and plots of it."""
        status = RunStatus.FAILED if failed else RunStatus.FINISHED
        try:
            self._log_table(run_id, "comparison.json", rows)
            if page is not None:
                self.client.log_artifact(run_id, str(page))
            for plot in plots:
                self.client.log_figure(run_id, draw(rows, plot), f"comparison/{plot.y}.png")
        finally:
            self.client.set_terminated(run_id, RunStatus.to_string(status))

    def log_tables(self, name: str, tables: Mapping[str, Rows], tags: Mapping[str, str]) -> str:
        """A finished run that holds nothing but tables; returns its id."""
        run_id = self._start(name, time.time(), None)
        with self._finishing(run_id):
            self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
            for table, rows in tables.items():
                self._log_table(run_id, f"{table}.json", rows)
        return run_id

    def log_study(
        self,
        name: str,
        started: float,
        params: Mapping[str, object],
        metrics: Mapping[str, float],
        tables: Mapping[str, Rows],
        figures: Mapping[str, Figure],
        trials: Rows,
    ) -> str:
        """A finished study with some of its trials as runs under it; returns its id."""
        run_id = self._start(name, started, None)
        with self._finishing(run_id):
            self.client.log_batch(run_id, metric_entries(metrics), param_entries(params))
            for table, rows in tables.items():
                if rows:
                    self._log_table(run_id, f"{table}.json", rows)
            for plot, figure in figures.items():
                self.client.log_figure(run_id, figure, f"{plot}.png")
            for trial in trials:
                values = {key: v for key, v in trial.items() if isinstance(v, float) and key != "seconds"}
                others = {key: v for key, v in trial.items() if key not in values and v is not None}
                child = self._start(f"{trial['study']} trial {trial['trial']}", started, run_id)
                self.client.log_batch(child, metric_entries(values), param_entries(others))
                self.client.set_terminated(child)
        return run_id

    def delete(self, run_id: str) -> None:
        """Remove a parent that never had a job."""
        self.client.delete_run(run_id)

    def _start(self, name: str, started: float, parent: str | None) -> str:
        tags = {MLFLOW_SOURCE_NAME: "python -m dnr_bench", MLFLOW_SOURCE_TYPE: "LOCAL"}
        tags |= {MLFLOW_PARENT_RUN_ID: parent} if parent else {}
        run = self.client.create_run(
            self.experiment_id, start_time=int(started * 1000), tags=tags, run_name=name
        )
        return str(run.info.run_id)

    @contextmanager
    def _finishing(self, run_id: str) -> Iterator[None]:
        """Closes a run as FINISHED, or as FAILED where logging it broke off."""
        status = RunStatus.FAILED
        try:
            yield
            status = RunStatus.FINISHED
        except Exception as error:
            self._note_failure(run_id, f"logging the run broke off: {error}")
            raise RunError(
                f"the run is done and on disk, but MLflow could not be told all: {error}"
            ) from error
        finally:
            self.client.set_terminated(run_id, RunStatus.to_string(status))

    def _note_failure(self, run_id: str, reason: str) -> None:
        self.client.set_tag(run_id, MLFLOW_RUN_NOTE, f"**failed:** {reason}")
        self.client.set_tag(run_id, "failure", reason[:5000])

    def _log_probe(self, run_id: str, result: RunResult) -> None:
        source = CodeDatasetSource({"mlflow.source.type": "PROJECT", "mlflow.source.name": "dnr_bench"})
        name, sha = result.probe.name, result.probe.digest
        dataset = MetaDataset(source=source, name=name, digest=sha[:32])
        with mlflow.start_run(run_id=run_id):
            mlflow.log_input(dataset, context="probing set")

    def _log_calls(self, run_id: str, result: RunResult) -> None:
        """Log calls of chat models as traces of the run: the first of many; calls.jsonl has all."""
        used = Counter[str]()
        for call in result.calls:
            used[call.part] += 1
            if used[call.part] <= _MAX_TRACES:
                _trace(call, result.usage[call.part].model, run_id, self.experiment_id)
        if used:
            mlflow.flush_trace_async_logging()

    def _log_files(self, run_id: str, result: RunResult, folder: Path) -> None:
        self._log_table(run_id, "neurons.json", [neuron_row(neuron) for neuron in result.neurons])
        self._log_table(run_id, "metrics.json", metric_rows(result))
        for table in result.tables:
            self._log_table(run_id, f"{table.name}.json", table.rows)
            if table.plot:
                self.client.log_figure(run_id, draw(table.rows, table.plot), f"{table.name}.png")
        self.client.log_dict(run_id, finite(result.config), "config.yaml")
        self._upload(run_id, folder)

    def _log_table(self, run_id: str, name: str, rows: Rows) -> None:
        columns = list(dict.fromkeys(key for row in rows for key in row))
        table = {column: [finite(row.get(column)) for row in rows] for column in columns}
        self.client.log_table(run_id, table, name)

    def _upload(self, run_id: str, folder: Path) -> None:
        for path in sorted(folder.glob("*")):
            if path.is_file():
                self.client.log_artifact(run_id, str(path))


def _trace(record: CallRecord, model: str, run_id: str, experiment_id: str) -> None:
    """A call of a chat model as a trace of the run."""
    call, answer = record.call, record.call.answer
    start = int(answer.started * 1e9)
    tokens = {"input_tokens": answer.prompt_tokens or 0, "output_tokens": answer.completion_tokens or 0}
    span = mlflow.start_span_no_context(
        name=record.part,
        span_type=SpanType.CHAT_MODEL,
        inputs={"messages": [{"role": "user", "content": call.text}], "images": list(call.images)},
        attributes={
            "mlflow.chat.tokenUsage": {**tokens, "total_tokens": sum(tokens.values())},
            "model": model,
            "temperature": call.temperature,
            "stopped": answer.stopped,
            "dollars": answer.dollars,
        },
        experiment_id=experiment_id,
        metadata={"mlflow.sourceRun": run_id},
        start_time_ns=start,
    )
    span.end(outputs=answer.text, end_time_ns=start + int(answer.seconds * 1e9))
