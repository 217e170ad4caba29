"""The demonstration: handwritten digits, three small trained networks, and the way from Keras to the runtime."""
