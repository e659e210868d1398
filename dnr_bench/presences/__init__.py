"""Ways to tell which images show a concept: CLIP, captions, classes or masks."""
