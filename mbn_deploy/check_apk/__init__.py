"""Find what in an Android archive breaks on a phone."""
