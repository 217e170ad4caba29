"""The package for ARM boards that run Linux: models, wheels, an installer and a service."""
