"""Settings that a study searches, as a config writes them, and what a trial chooses of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import optuna

from dnr_bench.infra.errors import UsageError

#: [low, high] of numbers; three or more numbers, or words, to choose from.
Range = Sequence[int | float | str]
Value = int | float | str
#: Of a value of a run its range; of a group its members, each with the settings that are searched with it.
Space = Range | Mapping[str, Mapping[str, Range] | None]
#: What a range of numbers that are not whole becomes in a grid.
_POINTS = 21
_ALLOWED = "must be [low, high], or three or more numbers or words to choose from"


def check_search_range(name: str, given: Range) -> None:
    """Raises `UsageError` for what is neither a range nor a choice."""
    numbers = [v for v in given if isinstance(v, int | float) and not isinstance(v, bool)]
    words = [v for v in given if isinstance(v, str)]
    is_range = len(numbers) == 2 and len(given) == 2 and numbers[0] <= numbers[1]
    is_choice = len(given) in (len(words), len(numbers)) and (words or len(numbers) > 2)
    if any(isinstance(v, bool) for v in given):
        raise UsageError(f"{name}={list(given)} {_ALLOWED}, not true or false")
    if not (is_range or is_choice) or (is_choice and len(set(given)) < len(given)):
        raise UsageError(f"{name}={list(given)} {_ALLOWED}, each once")


def suggest(trial: optuna.Trial, name: str, given: Range) -> Value:
    """The value of one setting: within a range, an integer between integers; or one of the values given."""
    if isinstance(given[0], str) or len(given) > 2:
        value = trial.suggest_categorical(name, list(given))
        assert value is not None, "no range holds it"
        return value
    low, high = (v for v in given if not isinstance(v, str))
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high)
    return rounded(trial.suggest_float(name, float(low), float(high)))


def grid(given: Range) -> list[Value]:
    """All values of a setting: every integer of a range of integers, 21 even steps of one of numbers."""
    if isinstance(given[0], str) or len(given) > 2:
        return list(given)
    low, high = (v for v in given if not isinstance(v, str))
    if isinstance(low, int) and isinstance(high, int):
        return list(range(low, high + 1))
    return list(dict.fromkeys(rounded(float(value)) for value in np.linspace(low, high, _POINTS)))


def told(value: Value) -> str:
    """A value as the command line of a run has it."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def scorer_overrides(scorer: str, settings: Mapping[str, Value]) -> tuple[str, ...]:
    """A scoring function with settings of its own as overrides of a run."""
    return f"scorer={scorer}", *(f"scorer.{name}={told(value)}" for name, value in settings.items())


def rounded(value: Value) -> Value:
    """A number as it is printed, so that the printed settings are those that were tried."""
    return float(told(value)) if isinstance(value, float) else value


def suggest_all(trial: optuna.Trial, space: Mapping[str, Range], prefix: str = "") -> dict[str, Value]:
    """A value for each setting of a space."""
    return {name: suggest(trial, f"{prefix}{name}", given) for name, given in space.items()}


def scorer_space(
    seeds: Sequence[int], space: Sequence[Mapping[str, Mapping[str, Range]]]
) -> dict[str, dict[str, Range]]:
    """The settings of each scoring function of a list of {scorer: {setting: range}}.

    Raises:
        UsageError: there are no seeds or no scoring functions, or what is given is no range.
    """
    if not seeds or not space:
        raise UsageError("seeds and space must not be empty")
    found = {scorer: dict(settings) for part in space for scorer, settings in part.items()}
    for scorer, settings in found.items():
        for name, given in settings.items():
            check_search_range(f"space.{scorer}.{name}", given)
    return found


def check_space(name: str, given: Space) -> None:
    """Raises `UsageError` where a part of a space is no range."""
    if not isinstance(given, Mapping):
        check_search_range(f"space.{name}", given)
        return
    if not given:
        raise UsageError(f"space.{name} is empty: name at least one member of the group")
    for member, settings in given.items():
        for setting, values in (settings or {}).items():
            check_search_range(f"space.{name}.{member}.{setting}", values)


def suggest_overrides(trial: optuna.Trial, space: Mapping[str, Space]) -> list[str]:
    """The overrides of a trial; the settings of a group's member are searched where it is chosen."""
    words: list[str] = []
    for name, given in space.items():
        if not isinstance(given, Mapping):
            words.append(f"{name}={told(suggest(trial, name, given))}")
            continue
        member = str(suggest(trial, name, list(given)))
        words.append(f"{name}={member}")
        for setting, values in (given[member] or {}).items():
            value = suggest(trial, f"{name}.{member}.{setting}", values)
            words.append(f"{name}.{setting}={told(value)}")
    return words
