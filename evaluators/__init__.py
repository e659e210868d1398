"""Evaluators: how good the labels of a run are. One file an evaluator; `metrics` is pure maths."""

import dnr_bench  # noqa: F401  (its import hook checks the types of this package, too)
