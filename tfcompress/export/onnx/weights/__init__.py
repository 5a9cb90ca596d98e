"""How integer weights stand in an ONNX file that unpacks itself: a module for each storage form, one that chooses."""
