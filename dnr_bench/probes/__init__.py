"""Probing sets: the images whose activations explain a neuron."""
