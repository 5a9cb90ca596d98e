"""Models over windows of time as step functions, whose state is an input and an output."""
