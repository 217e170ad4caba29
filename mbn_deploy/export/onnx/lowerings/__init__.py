"""Write each op of the graph to ONNX: one function per kind, by theme, and the tables."""
