"""The definitions of the images, and the preparation of their builds on the host."""
