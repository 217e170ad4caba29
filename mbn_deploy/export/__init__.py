"""From Keras models to a float graph, from graphs to TFLite and ONNX files, and from files back to descriptions."""
