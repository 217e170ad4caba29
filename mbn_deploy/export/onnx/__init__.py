"""A graph becomes an ONNX file, and ONNX files are read back."""
