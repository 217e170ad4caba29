"""Packages: folders and archives made from a bundle for one kind of device."""
