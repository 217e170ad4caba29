"""The operating system: the machine, child processes, files."""
