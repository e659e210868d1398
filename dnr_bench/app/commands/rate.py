"""People judge labels: a rating study, soundly and cheaply.

    dnr-bench rate plan                     how many ratings for which error, at what price?
    dnr-bench rate build [NAME=]RUN ...     a page per rater, and files for Prolific, Label Studio, MTurk
    dnr-bench rate serve STUDY              collect answers on this machine
    dnr-bench rate analyze STUDY FILE ...   which answers count, tables, a page, a run in MLflow

Each step has a --help of its own; docs/ratings.md goes through a study.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from dnr_bench.app.command_line import CommandParser
from dnr_bench.infra.errors import UsageError

_STEPS = ("plan", "build", "serve", "analyze")


def main(words: Sequence[str]) -> int:
    """Take the step that the command line names."""
    if words and words[0] in _STEPS:
        found: int = import_module(f"dnr_bench.app.rate.{words[0]}").main(words[1:])
        return found
    parser = CommandParser("rate", __doc__)
    parser.add_argument("step", choices=_STEPS)
    parser.parse_args(words)
    raise UsageError(f"the step comes first: dnr-bench rate {'|'.join(_STEPS)} ...")
