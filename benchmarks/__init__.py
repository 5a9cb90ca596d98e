"""Comparisons with peers; each is run by hand and keeps its figures in `results/`."""
