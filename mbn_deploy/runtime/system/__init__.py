"""What the operating system knows and does: the machine, processes, files."""
