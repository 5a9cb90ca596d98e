"""Channels of very different sizes on a scale that they share."""
