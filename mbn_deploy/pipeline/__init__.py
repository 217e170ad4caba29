"""The main job: from a Keras model to a bundle."""
