"""What MLflow is told of a run: the only module that imports mlflow.

`python -m dnr_bench.tracking [mlruns]` opens the MLflow UI.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow
from filelock import FileLock
from matplotlib.figure import Figure
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Metric, Param, Run, RunStatus, RunTag, SpanType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import (
    MLFLOW_GIT_COMMIT,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_RUN_NOTE,
    MLFLOW_SOURCE_NAME,
    MLFLOW_SOURCE_TYPE,
)

from dnr_bench.comparison import Job, is_of_a_kind, read_job
from dnr_bench.errors import RunError, UsageError
from dnr_bench.plots import draw
from dnr_bench.run import RunResult, constants_that_win, finite
from dnr_bench.types import Plot

log = logging.getLogger(__name__)

_MAX_PARAM = 500
#: Calls of a part that become traces, each of which takes a twentieth of a second.
_MAX_TRACES = 100
#: Metrics of a run's note, as far as it has them.
_NOTED = ("planted.exact", "planted.attribute_f1", "fc_layer.clip_cos", "held_out.f1", "held_out.correlation")
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
            _follow_move(root)
            self.client = MlflowClient(self.uri)
            self.experiment_id = self._experiment(experiment, (root / "artifacts").as_uri())

    def _experiment(self, name: str, location: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is None:
            return str(self.client.create_experiment(name, location, _KIND))
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
        parts: Mapping[str, str],
    ) -> str:
        """A finished run with its metrics, parameters, tables and the files in `folder`; returns its id.

        The member of each config group is a tag to filter by: tags.generator = 'diffusion'. Metrics in which
        one label for all neurons does as well as theirs are in the tag constant_label_wins.
        """
        run_id = self._start(name, started, parent)
        with self._finishing(run_id):
            self.client.log_batch(
                run_id,
                metrics=_metrics(result),
                params=_params(result.config),
                tags=[RunTag(f"version.{key}", value) for key, value in result.versions.items()]
                + [RunTag(group, member) for group, member in parts.items()]
                + [RunTag("constant_label_wins", ", ".join(constants_that_win(result.metrics)) or "nowhere")]
                + [RunTag(MLFLOW_GIT_COMMIT, result.versions["git"])]
                + [RunTag(MLFLOW_RUN_NOTE, _note(result, parts))],
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
            self.client.log_batch(run_id, params=_params(config))
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
        rows: Sequence[Mapping[str, Any]],
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

    def jobs(self, run_id: str) -> list[Job]:
        """What a run, or each job of a multirun, left behind."""
        try:
            run = self.client.get_run(run_id)
        except MlflowException as error:
            raise UsageError(
                f"{run_id} is neither a folder nor the id of a run in {self.uri.removeprefix('sqlite:///')}"
            ) from error
        children = self.client.search_runs(
            [run.info.experiment_id],
            f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run_id}'",
            order_by=["attributes.start_time ASC"],
        )
        return [self._job(child) for child in children or [run]]

    def _job(self, run: Run) -> Job:
        if not any(item.path == "outcome.json" for item in self.client.list_artifacts(run.info.run_id)):
            return Job({}, None, run.data.tags.get("failure", "it has no result"))
        with TemporaryDirectory() as folder:
            for name in ("outcome.json", "result.json"):
                self.client.download_artifacts(run.info.run_id, name, folder)
            return read_job(Path(folder))

    def log_tables(
        self, name: str, tables: Mapping[str, Sequence[Mapping[str, Any]]], tags: Mapping[str, str]
    ) -> str:
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
        tables: Mapping[str, Sequence[Mapping[str, Any]]],
        figures: Mapping[str, Figure],
        trials: Sequence[Mapping[str, Any]],
    ) -> str:
        """A finished study with some of its trials as runs under it; returns its id."""
        run_id = self._start(name, started, None)
        with self._finishing(run_id):
            self.client.log_batch(run_id, *_study_entries(metrics, params))
            for table, rows in tables.items():
                if rows:
                    self._log_table(run_id, f"{table}.json", rows)
            for plot, figure in figures.items():
                self.client.log_figure(run_id, figure, f"{plot}.png")
            for trial in trials:
                values = {key: v for key, v in trial.items() if isinstance(v, float) and key != "seconds"}
                others = {key: v for key, v in trial.items() if key not in values and v is not None}
                child = self._start(f"{trial['study']} trial {trial['trial']}", started, run_id)
                self.client.log_batch(child, *_study_entries(values, others))
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
        name, sha = result.probe["name"], result.probe["digest"]
        dataset = MetaDataset(source=source, name=name, digest=sha[:32])
        with mlflow.start_run(run_id=run_id):
            mlflow.log_input(dataset, context="probing set")

    def _log_calls(self, run_id: str, result: RunResult) -> None:
        """What chat models were asked, as traces of the run; of many calls the first, calls.jsonl has all."""
        if not result.calls:
            return
        used = Counter[str]()
        for call in result.calls:
            used[call["part"]] += 1
            if used[call["part"]] > _MAX_TRACES:
                continue
            start = int(call["started"] * 1e9)
            tokens = {"input_tokens": call["prompt_tokens"], "output_tokens": call["completion_tokens"]}
            span = mlflow.start_span_no_context(
                name=call["part"],
                span_type=SpanType.CHAT_MODEL,
                inputs={
                    "messages": [{"role": "user", "content": call["question"]}],
                    "images": call["images"],
                },
                attributes={
                    "mlflow.chat.tokenUsage": {**tokens, "total_tokens": sum(tokens.values())},
                    "model": result.usage[call["part"]]["model"],
                    "temperature": call["temperature"],
                    "stopped": call["stopped"],
                    "dollars": call["dollars"],
                },
                experiment_id=self.experiment_id,
                metadata={"mlflow.sourceRun": run_id},
                start_time_ns=start,
            )
            span.end(outputs=call["text"], end_time_ns=start + int(call["seconds"] * 1e9))
        mlflow.flush_trace_async_logging()

    def _log_files(self, run_id: str, result: RunResult, folder: Path) -> None:
        self._log_table(run_id, "neurons.json", [_neuron_row(record) for record in result.neurons])
        self._log_table(run_id, "metrics.json", _metric_rows(result))
        for table in result.tables:
            self._log_table(run_id, f"{table['name']}.json", table["rows"])
            if table["plot"]:
                self.client.log_figure(
                    run_id, draw(table["rows"], Plot(**table["plot"])), f"{table['name']}.png"
                )
        self.client.log_dict(run_id, finite(result.config), "config.yaml")
        self._upload(run_id, folder)

    def _log_table(self, run_id: str, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        columns = list(dict.fromkeys(key for row in rows for key in row))
        table = {column: [finite(row.get(column)) for row in rows] for column in columns}
        self.client.log_table(run_id, table, name)

    def _upload(self, run_id: str, folder: Path) -> None:
        for path in sorted(folder.glob("*")):
            if path.is_file():
                self.client.log_artifact(run_id, str(path))


def _metric_rows(result: RunResult) -> list[dict[str, Any]]:
    """One row a metric, as a table."""
    keys = ("mean", "low", "high", "chance", "oracle", "normalized", "n", "unscored")
    return [
        {"metric": name, **{key: values[key] for key in keys}, **values["controls"]}
        for name, values in result.metrics.items()
    ]


def _neuron_row(record: Mapping[str, Any]) -> dict[str, Any]:
    labels, candidates, course = record["labels"], record["candidates"], record["course"]
    best = candidates[0] if labels else {}
    return {
        "neuron": f"{record['layer']}:{record['unit']}",
        "label": "; ".join(labels),
        "truth": record["truth"],
        "score": record["score"],
        "origin": best.get("origin"),
        "iteration": best.get("iteration"),
        "runners_up": "; ".join(c["text"] for c in candidates if c["text"] not in labels),
        "unscored": record["unscored"],
        "refinement_progress": " ".join(f"{value:.3g}" for value in course["progress"]) if course else None,
        "refinement_stopped": course["stopped"] if course else None,
        **record["values"],
    }


def _metrics(result: RunResult) -> list[Metric]:
    """The numbers that runs are compared by; per-neuron values are in the table."""
    flat: dict[str, float | None] = {"seconds": result.seconds}
    for name, values in result.metrics.items():
        flat[name] = values["mean"]
        if not is_of_a_kind(name, result.metrics):  # those have their intervals in the table
            flat |= {f"{name}.{key}": values[key] for key in ("low", "high", "chance", "normalized")}
    for name, stage in result.stages.items():
        for key, value in stage.items():
            flat[f"stages.{name}.{key}"] = float(value)
    flat["neurons.unscored"] = float(sum(record["unscored"] is not None for record in result.neurons))
    now = int(time.time() * 1000)
    found = [Metric(key, finite(value), now, 0) for key, value in flat.items() if finite(value) is not None]
    for name, curve in result.curves.items():
        found += [Metric(name, value, now, step) for step, value in enumerate(curve, start=1)]
    return found


def _note(result: RunResult, parts: Mapping[str, str]) -> str:
    """What a run is about, in a few lines of Markdown for its page."""
    unscored = sum(record["unscored"] is not None for record in result.neurons)
    layers = ", ".join(dict.fromkeys(record["layer"] for record in result.neurons))
    shown = [name for name in _NOTED if name in result.metrics] or list(result.metrics)[:3]
    lines = [
        f"{len(result.neurons)} neurons of {layers}, {unscored} without a label; `report.html` shows them."
    ]
    for name in shown:
        found = result.metrics[name]
        interval = "" if finite(found["low"]) is None else f" ({found['low']:.2f} to {found['high']:.2f})"
        chance = "" if finite(found["chance"]) is None else f", chance {found['chance']:.2f}"
        lines.append(f"- {name}: **{found['mean']:.3f}**{interval}{chance}")
    return "\n".join([*lines, "", " ".join(f"{group}={member}" for group, member in parts.items())])


def _study_entries(
    metrics: Mapping[str, float], params: Mapping[str, object]
) -> tuple[list[Metric], list[Param]]:
    now = int(time.time() * 1000)
    return (
        [Metric(key, value, now, 0) for key, value in metrics.items() if finite(value) is not None],
        [Param(key, str(value)[:_MAX_PARAM]) for key, value in params.items()],
    )


def _params(config: Mapping[str, Any], prefix: str = "") -> list[Param]:
    params = []
    for key, value in config.items():
        if isinstance(value, Mapping):
            params += _params(value, f"{prefix}{key}.")
        elif key != "_target_":  # the member of its group is a tag, and config.yaml has everything
            text = value if isinstance(value, str) else json.dumps(value)
            params.append(Param(f"{prefix}{key}", text[:_MAX_PARAM]))
    return params


def _follow_move(mlruns: Path) -> None:
    """Let the database find its artifacts after the checkout was moved or copied to another folder.

    MLflow keeps absolute artifact addresses. A file beside the database remembers the folder's own; where
    it is another one now, addresses that begin with the old one are rewritten, and no others.
    """
    note, here = mlruns / ".artifacts-at", (mlruns / "artifacts").as_uri()
    before = note.read_text().strip() if note.exists() else here
    if before != here and (mlruns / "mlflow.db").exists():
        log.warning("the folder of MLflow's artifacts has moved: %s is now %s", before, here)
        with closing(sqlite3.connect(mlruns / "mlflow.db")) as connection, connection:
            for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
                connection.execute(
                    f"update {table} set {column} = ? || substr({column}, ?)"
                    f" where substr({column}, 1, ?) = ?",
                    (here, len(before) + 1, len(before), before),
                )
    note.write_text(here + "\n")


def open_ui(mlruns: Path, port: int = 5000) -> None:
    """Replace this process by the MLflow UI on what has been run."""
    tracker = Tracker(mlruns, "dnr_bench")
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", tracker.uri]
    os.execv(sys.executable, [*command, "--host", "127.0.0.1", "--port", str(port)])


if __name__ == "__main__":
    open_ui(Path(sys.argv[1] if len(sys.argv) > 1 else "mlruns"))
