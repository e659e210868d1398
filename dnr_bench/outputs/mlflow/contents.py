"""What a finished run leaves in MLflow: metrics, parameters, tags, tables, traces of chat models, files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import mlflow
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.entities import Dataset, DatasetInput, InputTag, RunTag, SpanType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_GIT_COMMIT, MLFLOW_RUN_NOTE
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random

from dnr_bench.data.scorecard import Table
from dnr_bench.outputs.mlflow.entries import metric_rows, metrics_of, neuron_row, note_of
from dnr_bench.outputs.plots import draw
from dnr_bench.results.schema import CallRecord, RunResult, finite

Rows = Sequence[Mapping[str, object]]

#: Calls of a part that become traces, each of which takes a twentieth of a second.
_MAX_TRACES = 100


def log_contents(
    client: MlflowClient,
    run_id: str,
    experiment_id: str,
    result: RunResult,
    folder: Path,
    choices: Mapping[str, str],
) -> None:
    """Log a result and the files in `folder` to an open run; `choices`: the member of each config group."""
    client.log_batch(
        run_id,
        metrics=metrics_of(result),
        tags=[RunTag(f"version.{key}", value) for key, value in result.versions.items()]
        + [RunTag("constant_label_wins", ", ".join(result.beaten_by("best_constant")) or "nowhere")]
        + [RunTag("copied_caption_wins", ", ".join(result.beaten_by("copy")) or "nowhere")]
        + [RunTag(MLFLOW_GIT_COMMIT, result.versions["git"])]
        + [RunTag(MLFLOW_RUN_NOTE, note_of(result, choices))],
    )
    _log_probe(client, run_id, result)
    _log_calls(run_id, experiment_id, result)
    log_table(client, run_id, "neurons.json", [neuron_row(neuron) for neuron in result.neurons])
    log_table(client, run_id, "metrics.json", metric_rows(result))
    for table in result.tables:
        log_drawn_table(client, run_id, table)
    client.log_dict(run_id, finite(result.config), "config.yaml")
    upload(client, run_id, folder)


def log_table(client: MlflowClient, run_id: str, name: str, rows: Rows) -> None:
    """Log rows as one of MLflow's tables."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = {column: [finite(row.get(column)) for row in rows] for column in columns}
    client.log_table(run_id, table, name)


def log_drawn_table(client: MlflowClient, run_id: str, table: Table) -> None:
    """Log a table, and its plot where it has one."""
    log_table(client, run_id, f"{table.name}.json", table.rows)
    if table.plot:
        client.log_figure(run_id, draw(table.rows, table.plot), f"{table.name}.png")


def upload(client: MlflowClient, run_id: str, folder: Path) -> None:
    """Log the files of a folder, those of its subfolders not."""
    for path in sorted(folder.glob("*")):
        if path.is_file():
            client.log_artifact(run_id, str(path))


# two runs that log the same set at the same moment both try to add it to the database
@retry(
    retry=retry_if_exception_type(MlflowException),
    stop=stop_after_attempt(4),
    wait=wait_random(0.1, 0.5),
    reraise=True,
)
def _log_probe(client: MlflowClient, run_id: str, result: RunResult) -> None:
    source = CodeDatasetSource({"mlflow.source.type": "PROJECT", "mlflow.source.name": "dnr_bench"})
    probe = Dataset(result.probe.name, result.probe.digest[:32], "code", source.to_json())
    client.log_inputs(run_id, [DatasetInput(probe, [InputTag(MLFLOW_DATASET_CONTEXT, "probing set")])])


def _log_calls(run_id: str, experiment_id: str, result: RunResult) -> None:
    """Log calls of chat models as traces of the run: the first of many; calls.jsonl has all."""
    used = Counter[str]()
    for call in result.calls:
        used[call.part] += 1
        if used[call.part] <= _MAX_TRACES:
            _trace(call, result.usage[call.part].model, run_id, experiment_id)
    if used:
        mlflow.flush_trace_async_logging()


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
