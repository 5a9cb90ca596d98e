"""Integers in an ONNX graph: QuantizeLinear and DequantizeLinear where ONNX Runtime makes integer kernels of them."""
