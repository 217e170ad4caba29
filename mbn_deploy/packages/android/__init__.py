"""The package for Android apps."""
