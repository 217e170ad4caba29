"""How each op of the graph is written to TFLite: one function per kind, by theme, and one table."""
