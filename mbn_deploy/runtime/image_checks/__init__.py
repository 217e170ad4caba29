"""Check image files, before they are decoded, for what would make their decoding take minutes or gigabytes."""
