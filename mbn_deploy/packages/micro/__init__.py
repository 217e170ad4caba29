"""The package for microcontrollers: the int8 model as a C array."""
