"""The package for microcontrollers."""
