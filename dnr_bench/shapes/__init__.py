"""The embedded world: a renderer with exact ground truth, and small real models trained on it."""
