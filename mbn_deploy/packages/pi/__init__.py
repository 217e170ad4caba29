"""The package for ARM boards that run Linux."""
