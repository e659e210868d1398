"""Writes finished runs for others to read: dnr-bench export my_results mlruns/runs

The folder gets runs.parquet, neurons.parquet, a dataset card (README.md) for data hubs, and for each run an
evaluation log that Inspect's viewer reads (inspect view --log-dir my_results/logs).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from dnr_bench import __version__
from dnr_bench.app.command_line import CommandParser
from dnr_bench.app.records import read_records
from dnr_bench.infra.errors import UsageError
from dnr_bench.infra.files import writing
from dnr_bench.infra.text_files import markdown_table, read_text
from dnr_bench.results.evaluation_log import evaluation_log
from dnr_bench.results.records import Record, neuron_rows, run_rows

_WRITTEN_BY = "Written by dnr_bench"
_CARD = """---
pretty_name: Descriptions of neurons, with scores
tags: [interpretability, vision, neuron-descriptions, dnr_bench]
configs:
- config_name: runs
  data_files: runs.parquet
- config_name: neurons
  data_files: neurons.parquet
---

# Descriptions of neurons, with scores

{written_by} {version} from {n_runs} runs of {n_neurons} neurons.

- `runs.parquet`: one row per run. Parts and settings by dotted names; each metric as its mean, with `.low`
  and `.high` of its 95% interval, `.chance` (labels dealt at random) and `.n`, the items that have a value.
- `neurons.parquet`: one row per neuron of each run. `label` is empty where the neuron got none, and
  `unscored` says why; such a neuron counts for no metric.
- `logs/`: the same runs as evaluation logs of Inspect.

{table}"""


def main(words: Sequence[str]) -> int:
    """Export what the command line names."""
    parser = CommandParser("export", __doc__)
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder to write to")
    parser.add_argument(
        "sources", nargs="*", metavar="SOURCE", default=["mlruns/runs"],
        help="folders with runs (mlruns/runs), or an address of MLflow's (sqlite:///..., http://...)",
    )  # fmt: skip
    parser.add_argument("--experiment", default="dnr_bench", help="of MLflow, where a source is its address")
    arguments = parser.parse_args(words)
    records = read_records(arguments.sources, arguments.experiment)
    out: Path = arguments.out
    _check(out)
    _write_tables(records, out)
    _write_logs(records, out / "logs")
    print(f"written: {len(records)} runs to {out}")
    return 0


def _check(out: Path) -> None:
    """Refuse a folder of something else; one of an export may be written again.

    Raises:
        UsageError: it is one.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is no folder")
    card = out / "README.md"
    if card.exists() and _WRITTEN_BY not in read_text(card, "export"):
        raise UsageError(f"{card} is not of an export, and would be lost: name another folder")


def _write_logs(records: Sequence[Record], folder: Path) -> None:
    """In place of those of an export before."""
    for log in folder.glob("*_dnr-bench_*.json"):
        log.unlink()
    for record in records:
        with writing(folder / f"{_file_name(record)}.json") as partial:
            partial.write_text(json.dumps(evaluation_log(record), indent=1) + "\n", encoding="utf-8")


def _write_tables(records: Sequence[Record], out: Path) -> None:
    import pandas

    runs, neurons = run_rows(records), neuron_rows(records)
    for name, rows in (("runs", runs), ("neurons", neurons)):
        with writing(out / f"{name}.parquet") as partial:
            pandas.DataFrame(rows).to_parquet(partial, index=False)
    names = [(record.run, record.name, str(len(record.result.neurons))) for record in records]
    card = _CARD.format(
        written_by=_WRITTEN_BY,
        version=__version__,
        n_runs=len(runs),
        n_neurons=len(neurons),
        table=markdown_table(("run", "settings", "neurons"), names),
    )
    with writing(out / "README.md") as partial:
        partial.write_text(card, encoding="utf-8")


def _file_name(record: Record) -> str:
    """The time first, as in the logs of others, and nothing of a run's name that a file cannot be called."""
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", record.run).strip("-.")[-80:]
    return f"{record.finished:%Y-%m-%dT%H-%M-%S}_dnr-bench_{name}_{record.digest[:8]}"
