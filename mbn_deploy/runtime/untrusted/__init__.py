"""Check model files that no manifest vouches for."""
