"""The package for iOS apps: resources and a class in Swift."""
