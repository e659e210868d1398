"""Searches over the settings of a run."""

import dnr_bench  # noqa: F401  (its import hook checks the types of this package, too)
