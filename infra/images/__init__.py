"""The images' definitions, and what their builds need from the host."""
