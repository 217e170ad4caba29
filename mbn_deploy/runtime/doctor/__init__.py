"""Find out what this machine can run."""
