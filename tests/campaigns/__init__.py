"""Campaigns of faults, too long for each change: `make campaign`. Each prints what it tried and what came of it."""
