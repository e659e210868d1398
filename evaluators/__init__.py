"""Evaluators: how good the labels of a run are. One file per evaluator."""
