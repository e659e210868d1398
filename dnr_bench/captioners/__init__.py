"""Captioners: images to sentences (step 2 of the method)."""
