"""What integer runtimes compute, each in its own rounding: whole numbers in, whole numbers out."""
