"""The output folder: written all or nothing, opened and checked."""
