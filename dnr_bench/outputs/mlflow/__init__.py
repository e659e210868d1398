"""Runs in MLflow; the only package that imports mlflow."""

import mlflow  # noqa: F401  (first: it loads artifacts.py by its entry point, which must not be half loaded then)
