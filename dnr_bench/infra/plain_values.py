"""Typed records from plain values of a JSON file: strictly, with a short reason where they do not fit."""

from __future__ import annotations

import math
from functools import cache
from typing import TypeVar

import cattrs
from cattrs.errors import BaseValidationError

T = TypeVar("T")
#: Reasons that a message names.
_REASONS = 3


def structured(content: object, kind: type[T]) -> T:
    """A record of this type, whose fields have exactly these names and types; null is NaN for a number.

    Raises:
        ValueError: the content is something else; with the first reasons.
    """
    try:
        found: T = _converter().structure(content, kind)
    except BaseValidationError as error:
        raise ValueError("; ".join(cattrs.transform_error(error)[:_REASONS])) from error
    except (TypeError, AttributeError, KeyError) as error:
        raise ValueError(str(error)) from error
    return found


@cache
def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook_func(
        lambda kind: kind is object, lambda value, _: value
    )  # cells of tables
    for kind in (bool, int, str):
        converter.register_structure_hook(kind, _exactly)
    return converter


def _number(value: object, _: object) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return float(value)


def _exactly(value: object, kind: type) -> object:
    if type(value) is not kind:
        raise TypeError(f"{value!r} is not of type {kind.__name__}")
    return value
