"""tfmot's names for quantization."""
