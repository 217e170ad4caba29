"""Keras models become a float graph; graphs become TFLite and ONNX files; files are read back."""
