"""The demonstration: handwritten digits, three small trained models, and the way from Keras to a device."""
