"""How each Keras layer and operation becomes ops of the graph: one function per kind, by theme."""
