"""A benchmark harness for descriptions of what neurons in vision networks detect.

    from dnr_bench import describe
    result = describe(model, layers=["layer4"], images="photos", units=range(20))

Names below are imported when they are first used, so that importing the package is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dnr_bench.app.composition import load_config
    from dnr_bench.app.configuration import build_run
    from dnr_bench.app.describe import describe
    from dnr_bench.app.records import neurons_df, runs_df
    from dnr_bench.app.run import RunConfig, run
    from dnr_bench.results.schema import RunResult
    from dnr_bench.session import Evaluator, Method, Session

__version__ = "0.2.0"

_HOMES = {
    "describe": "dnr_bench.app.describe",
    "load_config": "dnr_bench.app.composition",
    "build_run": "dnr_bench.app.configuration",
    "neurons_df": "dnr_bench.app.records",
    "run": "dnr_bench.app.run",
    "runs_df": "dnr_bench.app.records",
    "RunConfig": "dnr_bench.app.run",
    "RunResult": "dnr_bench.results.schema",
    "Session": "dnr_bench.session",
    "Method": "dnr_bench.session",
    "Evaluator": "dnr_bench.session",
}

__all__ = [
    "Evaluator",
    "Method",
    "RunConfig",
    "RunResult",
    "Session",
    "build_run",
    "describe",
    "load_config",
    "neurons_df",
    "run",
    "runs_df",
]


def __getattr__(name: str) -> object:
    """The public name, imported from where it lives."""
    if name not in _HOMES:
        raise AttributeError(f"module 'dnr_bench' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
