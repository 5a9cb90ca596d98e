"""What post-training quantization does with data: calibration, equalization, correction."""
