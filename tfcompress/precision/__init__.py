"""Training in mixed precision."""
