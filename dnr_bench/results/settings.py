"""The settings of a run as text, each once and in one form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

#: Where a run keeps its files and finds services, which is nobody else's business.
PLACES = ("paths", "tracking", "store", "executor", "hydra")
#: What changes nothing that is computed.
MANNERS = ("report", "experiment_name", "verbose", "debug", "dry", "shard")


def told_settings(config: Mapping[str, Any]) -> dict[str, str]:
    """The settings that others may see: without those of the machine."""
    return {k: v for k, v in flat_settings(config).items() if k.partition(".")[0] not in PLACES}


def deciding_settings(config: Mapping[str, Any]) -> dict[str, str]:
    """The settings that decide what is found, without the seed: runs that share them are pooled."""
    return {k: v for k, v in told_settings(config).items() if k not in (*MANNERS, "seed", "device")}


def flat_settings(config: Mapping[str, Any]) -> dict[str, str]:
    """All settings by dotted names.

    What a part takes over from the top of the config (its scorer, the device) is there once. A number has one
    form, however it was written: a chart's axis would take 0 and 0.0 for two values.
    """
    return _flat(config, config, "")


def _flat(config: Mapping[str, Any], top: Mapping[str, Any], prefix: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in config.items():
        if prefix and key in top and top[key] == value:
            continue
        if isinstance(value, Mapping):
            found |= _flat(value, top, f"{prefix}{key}.")
        elif key != "_target_":  # the member of its group stands for it, and config.yaml has everything
            found[f"{prefix}{key}"] = shown_value(value)
    return found


def shown_value(value: object) -> str:
    """A setting as text: 0.0 is 0, and what looks like a number counts as one."""
    if isinstance(value, str):
        try:
            number = json.loads(value)
        except ValueError:
            return value
        return shown_value(number) if isinstance(number, int | float) else value
    return json.dumps(_plain_numbers(value))


def _plain_numbers(value: object) -> object:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list | tuple):
        return [_plain_numbers(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain_numbers(item) for key, item in value.items()}
    return value
