"""The package for iOS apps."""
