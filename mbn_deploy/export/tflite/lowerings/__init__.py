"""Write each op of the graph to TFLite: one function per kind, by theme, and one table."""
