"""Read the binary formats of model files."""
