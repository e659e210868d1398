"""Summarizers: a neuron's captions to candidate concepts (step 2 of the method)."""
