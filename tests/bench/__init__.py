"""Measurements as ratios and medians of one run: `make bench`."""
