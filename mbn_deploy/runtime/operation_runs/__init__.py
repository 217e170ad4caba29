"""Run a model file op by op."""
