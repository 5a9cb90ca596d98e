"""Samples to try a model on: their sizes and values, from what its graph knows of its inputs."""
