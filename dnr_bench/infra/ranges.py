"""Numbers of settings and the ranges in which they make sense."""

from __future__ import annotations

from dnr_bench.infra.errors import UsageError

#: Of a range up to this width both ends are named.
_NARROW = 10


def check_range(low: float, high: float, **values: float | None) -> None:
    """Raises `UsageError` for a value outside of low..high, a boolean or NaN; None stands for no number."""
    for name, value in values.items():
        if value is None or (low <= value <= high and not isinstance(value, bool)):
            continue
        if high - low <= _NARROW or isinstance(value, bool) or value != value:
            raise UsageError(f"{name}={value} must lie in {low:g}..{high:g}")
        if value < low:
            raise UsageError(f"{name}={value} must be at least {low:g}")
        raise UsageError(f"{name}={value} must be at most {high:,}")
