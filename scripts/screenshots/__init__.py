"""`make screenshots`: make the pictures of the README."""
