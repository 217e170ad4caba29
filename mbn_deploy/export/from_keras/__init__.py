"""A Keras file or model becomes a float graph."""
