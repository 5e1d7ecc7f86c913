"""The comparison of the targets: what is the same on Docker and AWS, what differs, and why.

Plain data, from which docs/parity.md is rendered. Each setting, each parameter, and each property that matters for
security or operations has an entry. Tests check that the settings and parameters are complete.
"""
