"""Generators: prompts to images (step 3 of the method)."""
