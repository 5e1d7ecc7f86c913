"""The Docker target, with one file per component."""
