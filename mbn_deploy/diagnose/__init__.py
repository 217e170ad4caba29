"""Find which layers of a finished int8 file lose accuracy."""
