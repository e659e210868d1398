"""Settings that a study searches, as a config writes them, and what a trial chooses of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import optuna

from dnr_bench.infra.errors import UsageError

#: [low, high] of numbers, or words to choose from.
Range = Sequence[int | float | str]
Value = int | float | str


def check_search_range(name: str, given: Range) -> None:
    """Raises `UsageError` for what is neither a range nor a choice."""
    numbers = [v for v in given if isinstance(v, int | float) and not isinstance(v, bool)]
    if numbers and (len(numbers) != len(given) or len(given) != 2 or numbers[0] > numbers[1]):
        raise UsageError(f"{name}={list(given)} must be [low, high], or words to choose from")
    if any(isinstance(v, bool) for v in given):
        raise UsageError(
            f"{name}={list(given)} must be [low, high], or words to choose from, not true or false"
        )
    if not given:
        raise UsageError(f"{name}=[] must be [low, high], or words to choose from")


def suggest(trial: optuna.Trial, name: str, given: Range) -> Value:
    """The value of one setting: an integer between integers, a number between numbers, or a word."""
    if isinstance(given[0], str):
        return str(trial.suggest_categorical(name, list(given)))
    low, high = (v for v in given if not isinstance(v, str))
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high)
    return rounded(trial.suggest_float(name, float(low), float(high)))


def told(value: Value) -> str:
    """A value as the command line of a run has it."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def rounded(value: Value) -> Value:
    """A number as it is printed, so that the printed settings are those that were tried."""
    return float(told(value)) if isinstance(value, float) else value


def suggest_all(trial: optuna.Trial, space: Mapping[str, Range], prefix: str = "") -> dict[str, Value]:
    """A value for each setting of a space."""
    return {name: suggest(trial, f"{prefix}{name}", given) for name, given in space.items()}
