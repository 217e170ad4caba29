"""A graph becomes a TFLite file, and TFLite files are read back."""
