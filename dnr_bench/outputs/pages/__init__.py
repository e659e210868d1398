"""HTML pages: one for a run, one for a multirun; everything in them is escaped."""
