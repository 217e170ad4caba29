"""mbn-deploy: Keras MobileNets on phones and ARM boards."""

__version__ = "0.1.0"
