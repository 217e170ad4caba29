"""Calibration, quantization parameters and the int8 graph that every format is written from."""
