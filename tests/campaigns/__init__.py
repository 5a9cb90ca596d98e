"""Long runs that try many models, calls and faults, and print counts: `make campaign`."""
