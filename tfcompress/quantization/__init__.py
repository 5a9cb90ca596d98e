"""Quantization: numerics, ranges, placement; calibrated or trained."""
