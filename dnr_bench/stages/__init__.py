"""Expensive steps that methods and evaluators share: lists in, stored items out."""
