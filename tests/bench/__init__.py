"""Measurements, as ratios and medians in one run: `make bench`. No test asserts on time; this does."""
