"""Errors that end with one clear message instead of a traceback."""

from __future__ import annotations


class DnrError(Exception):
    """One message for the user: what went wrong, where, and what is allowed."""

    exit_code = 1


class UsageError(DnrError):
    """The request cannot be right: a wrong name, key, type or range."""

    exit_code = 2


class NothingToJudgeError(UsageError):
    """An evaluator knows nothing that these neurons could be held against; a run goes on without it."""


class RunError(DnrError):
    """The request is fine but could not be carried out."""
