"""What is measured of a model's answers, by their meaning: one `Measure` a meaning, which all have one shape."""
