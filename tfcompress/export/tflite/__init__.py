"""Integers in a TFLite file: each operator between grids replaced by its integer kernel."""
