"""Looks at migrations before and after they run, on a throwaway server: the target itself is only read."""
