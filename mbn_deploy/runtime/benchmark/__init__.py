"""Measure latency and memory on this machine."""
