"""How each op of the graph is written to ONNX: one function per kind, by theme, and the tables."""
