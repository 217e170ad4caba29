"""Rewrite the float graph before it is quantized, without changing what it computes."""
