"""What a graph becomes to be quantized: decomposed, folded, with quantizers in their places."""
