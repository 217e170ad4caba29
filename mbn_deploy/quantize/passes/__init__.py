"""Passes: rewrite the float graph before it is quantized, and correct biases after."""
