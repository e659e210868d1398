"""Describe-and-Dissect and Describe-and-Refine, step by step."""
