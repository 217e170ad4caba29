"""Run single operations of a model file."""
