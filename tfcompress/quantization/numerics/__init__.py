"""The arithmetic of quantization."""
