"""Run `.tflite` and `.onnx` files in the runtimes that will run them."""
