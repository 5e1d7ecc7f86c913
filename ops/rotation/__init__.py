"""Rotates a stack's passwords and certificates, step by step, while everybody goes on.

Each step is written down first (infra.rotation_file) and then made true by an `up`, so a killed rotation is a
stack between two steps, on which the same command goes on. No secret passes through here but to be tried out.
"""
