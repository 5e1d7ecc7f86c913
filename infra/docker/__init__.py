"""The Docker target: one ComponentResource a file."""
