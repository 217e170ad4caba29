"""Turn each Keras layer and operation into ops of the graph: one function per kind, by theme."""
