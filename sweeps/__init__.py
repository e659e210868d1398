"""Searches over the settings of a run."""
