"""What becomes of a weight: one file for each kind of transform, each with the encoding that files store."""
