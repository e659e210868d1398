"""Scoring functions: evidence to one score a candidate, larger is better (method steps 3)."""
