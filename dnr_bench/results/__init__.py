"""The result of a run as one typed and versioned record, and the comparison of runs."""
