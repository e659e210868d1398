"""Scoring functions: evidence to one score per candidate, larger is better (method steps 3)."""
